-- What an account has used, of the fields that `HMGET` told: totals that only grow, and where they stood when the last day and
-- the last month began in which something was settled. In a new period nothing is used, even before it is written down.
local function number(text)
  return text and text ~= '' and tonumber(text) or 0
end

-- Results: tokens used today; nUSD spent today, this month, ever. Of money only to compare it: these are Lua numbers. Which month
-- it was matters on a new day alone, and is read then.
local function used(account, now_ms, day, total_tokens, day_tokens, total_nusd, day_nusd, month_nusd)
  local spent = (total_nusd or 0) + 0
  if (day or -1) + 0 == (now_ms - now_ms % 86400000) / 86400000 then
    return (total_tokens or 0) - (day_tokens or 0), spent - (day_nusd or 0), spent - (month_nusd or 0), spent
  end
-- include: calendar
  local month = redis.call('HGET', account, 'month')
  return 0, 0, (month or -1) + 0 == month_of(now_ms) and spent - (month_nusd or 0) or 0, spent
end
