-- Rates: the generic cell rate algorithm (GCRA). One number per limit, the theoretical arrival time (TAT): the moment, in µs of
-- the server's clock, when everything taken so far has come back. A unit comes back every WINDOW / limit µs; what lies ahead of
-- the TAT's window is left. No table of past requests, and giving back is a subtraction.
--
-- TATs are stored as the numbers they are, which servers write so that they read the same again. At today's 1.8e15 µs a double
-- counts in quarters. A tolerance of a millisecond (half a unit, if that is less) absorbs these roundings, so that a limit of 7 a
-- minute really admits seven at once.
--
-- A TAT can be absurdly far ahead: the server's clock was set back, or one request used far more than it had reserved. Nobody
-- waits longer than one window for either: what is over is forgiven (the first result must then be written back).
-- Speed: these are made anew for every request, and each thing that they take from outside would be one object more. So
-- the minute's µs and the tolerance are written out.
local WINDOW = 60000000

-- Results: the TAT to go on from; the TAT if `cost` units are taken; the wait in ms until they can be (0: now; nil: never).
local function take(tat, now, limit, cost)
  local step = 60000000 / limit
  if cost > limit or limit == 0 then
    return math.min(tat, now + 120000000), nil, nil
  end
  local latest = now + 120000000 - cost * step
  local from = tat < latest and tat or latest
  local after = (from > now and from or now) + cost * step
  local over = after - now - 60000000
  if over <= 0 or over <= (step < 2000 and step / 2 or 1000) then
    return from, after, 0
  end
  return from, after, math.ceil(over / 1000)
end

-- Results: units left now (0 to limit), and ms until all of them are back; 0 and 0 if the limit is infinite.
local function level(tat, now, limit)
  if limit == math.huge then
    return 0, 0
  end
  local step = 60000000 / limit
  local ahead = tat > now and tat - now or 0
  local left = (60000000 - ahead + (step < 2000 and step / 2 or 1000)) / step
  local ahead_ms = ahead / 1000
  return left > 0 and left - left % 1 or 0, ahead_ms + -ahead_ms % 1
end
