-- Money, in nUSD. A Lua number counts up to 2^53; HINCRBY counts up to 2^63. Amounts that are all below EXACT (a million USD) are
-- added here, and written in one call together with other fields; where one is not, they stay text from end to end.
local EXACT = 10 ^ 15

-- Adds an amount, a text, to a field. HINCRBY does not read "-0".
local function add(account, field, amount, sign)
  if amount ~= '0' then
    redis.call('HINCRBY', account, field, (sign or '') .. amount)
  end
end
