-- Days and months of the server's clock, in UTC. Lua inside the server has no calendar: the civil date is counted in years that
-- begin on the 1st of March, so that the leap day comes last and every month is a matter of division.
local DAY_MS = 86400000

-- Result: the day's number, counted from 1970-01-01.
local function day_of(now_ms)
  return math.floor(now_ms / DAY_MS)
end

-- Result: the month's name, 202612 for December 2026.
local function month_of(now_ms)
  local shifted = day_of(now_ms) + 719468
  local era = math.floor(shifted / 146097)
  local day = shifted - era * 146097
  local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
  local of_year = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  year = year + era * 400
  if month < 10 then
    return year * 100 + month + 3
  end
  return (year + 1) * 100 + month - 9
end

-- Result: the ms when the present day or month ends; infinity for 'total'.
local function period_ends(period, now_ms)
  if period == 'day' then
    return (day_of(now_ms) + 1) * DAY_MS
  elseif period ~= 'month' then
    return math.huge
  end
  local name = month_of(now_ms)
  local year, after = math.floor(name / 100), name % 100 + 1
  if after <= 2 then
    year, after = year - 1, after + 12
  end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local day = of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + math.floor((153 * (after - 3) + 2) / 5)
  return (era * 146097 + day - 719468) * DAY_MS
end
