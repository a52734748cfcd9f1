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
local WINDOW = 60000000

local function tolerance(step)
  return math.min(step / 2, 1000)
end

-- Results: the TAT to go on from; the TAT if `cost` units are taken; the wait in ms until they can be (0: now; nil: never).
local function take(tat, now, limit, cost)
  local step = WINDOW / limit
  if cost > limit or limit == 0 then
    return math.min(tat, now + 2 * WINDOW), nil, nil
  end
  local from = math.min(tat, now + 2 * WINDOW - cost * step)
  local after = math.max(from, now) + cost * step
  local over = after - now - WINDOW
  if over <= tolerance(step) then
    return from, after, 0
  end
  return from, after, math.ceil(over / 1000)
end

-- Results: units left now (0 to limit), and ms until all of them are back.
local function level(tat, now, limit)
  local step = WINDOW / limit
  local ahead = math.max(tat - now, 0)
  local left = math.floor((WINDOW - ahead + tolerance(step)) / step)
  return math.max(left, 0), math.ceil(ahead / 1000)
end
