-- What an account has used, of the fields that `HMGET` told: totals that only grow, and where they stood when the last day and
-- the last month began in which something was settled. In a new period nothing is used, even before it is written down.
local function number(text)
  return tonumber(text or '') or 0
end

-- Results: tokens used today; nUSD spent today, this month, ever. Of money only to compare it: these are Lua numbers.
local function used(now_ms, day, month, total_tokens, day_tokens, total_nusd, day_nusd, month_nusd)
  local spent = (total_nusd or 0) + 0
  if (day or -1) + 0 == math.floor(now_ms / 86400000) then
    return (total_tokens or 0) - (day_tokens or 0), spent - (day_nusd or 0), spent - (month_nusd or 0), spent
  end
-- include: calendar
  return 0, 0, (month or -1) + 0 == month_of(now_ms) and spent - (month_nusd or 0) or 0, spent
end
