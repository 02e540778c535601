/**
 * The Lua that decides all rate limits of one key inside Redis: one step, all or nothing, by Redis's own clock. The
 * arithmetic is that of `sliding-window.ts`. What goes in and comes out is packed by `redis-windows.ts`.
 *
 * The state of a key is one hash: per rule a field `<name>:<windowSeconds>` with MessagePack of
 * `[first slot, units, distance to the next slot, units, …]`, only slots that hold something, oldest first.
 *
 * The marker of a bucket tells since when its counts are whole, in milliseconds; `0`: from the beginning. Where it is
 * missing, what was counted is lost, and then a key may have used all of every limit up to that moment.
 */
import { CLOCK_JUMP_MS, MINUTE_MS } from '../../foundation/clock.ts';
import { SLOTS_COUNTED, SLOTS_PER_WINDOW } from '../rate-limiter.ts';

/** A marker younger than this was made by another node of the same first start, which was faster. */
const FIRST_START_MS: number = MINUTE_MS;

/** Sets `nowMs`. It stands apart so that a test can move the time. */
const REDIS_CLOCK = `
local time = redis.call('TIME')
local nowMs = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
`;

/** Every number is a whole one below 2^53, so that Lua's doubles are exact. Redis answers them as integers. */
const DECIDE = `
local SLOTS_PER_WINDOW, SLOTS_COUNTED = ${SLOTS_PER_WINDOW}, ${SLOTS_COUNTED}
local CLOCKS_APART_MS = ${CLOCK_JUMP_MS}

local stateKey, markerKey = KEYS[1], KEYS[2]
local cost, isTaking, ageMs = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])

local function slotAt(ms, windowSeconds)
  return math.floor(ms * SLOTS_PER_WINDOW / (windowSeconds * 1000))
end

local function slotStartMs(slot, windowSeconds)
  return math.ceil(slot * windowSeconds * 1000 / SLOTS_PER_WINDOW)
end

local function newWindow(windowSeconds)
  local slot = slotAt(nowMs, windowSeconds)
  return { seconds = windowSeconds, now = slot, slots = {}, units = {}, size = 0, total = 0 }
end

-- Slots come in order. One that has wholly left is not counted. One that lies ahead of us, because Redis now runs on a
-- slower clock, is counted as now, and must be stored so: it is neither lost nor counted for longer than a window.
local function put(window, slot, units)
  if slot > window.now then
    slot = window.now
    window.isClamped = true
  end
  if units == 0 or slot <= window.now - SLOTS_COUNTED then return end
  if window.size == 0 or window.slots[window.size] ~= slot then
    window.size = window.size + 1
    window.slots[window.size] = slot
    window.units[window.size] = 0
  end
  window.units[window.size] = window.units[window.size] + units
  window.total = window.total + units
end

local function unpackWindow(packed, windowSeconds)
  local window, numbers, slot = newWindow(windowSeconds), cmsgpack.unpack(packed), 0
  for i = 1, #numbers, 2 do
    slot = slot + numbers[i]
    put(window, slot, numbers[i + 1])
  end
  return window
end

local function packWindow(window)
  local numbers, before = {}, 0
  for i = 1, window.size do
    numbers[i * 2 - 1] = window.slots[i] - before
    numbers[i * 2] = window.units[i]
    before = window.slots[i]
  end
  return cmsgpack.pack(numbers)
end

-- A new rule learns from the shortest window that looks back far enough, else from the longest.
local function teacherOf(windowSeconds, windows)
  local teacher
  for _, window in pairs(windows) do
    local isBetter
    if not teacher then
      isBetter = true
    elseif window.seconds == teacher.seconds then
      isBetter = window.total > teacher.total
    elseif teacher.seconds >= windowSeconds then
      isBetter = window.seconds >= windowSeconds and window.seconds < teacher.seconds
    else
      isBetter = window.seconds > teacher.seconds
    end
    if isBetter then teacher = window end
  end
  return teacher
end

-- What another window counted is put where it happened at the latest, so that nothing leaves too early.
local function learn(windowSeconds, teacher)
  local window = newWindow(windowSeconds)
  for i = 1, teacher.size do
    local latestMs = math.min(nowMs, slotStartMs(teacher.slots[i] + 1, teacher.seconds) - 1)
    put(window, slotAt(latestMs, windowSeconds), teacher.units[i])
  end
  return window
end

local function secondsUntilSlotLeft(slot, windowSeconds)
  return math.max(0, math.ceil((slotStartMs(slot + SLOTS_COUNTED, windowSeconds) - nowMs) / 1000))
end

local function secondsUntilFits(window, limit)
  if cost > limit then return window.seconds end
  local missing = window.total + cost - limit
  for i = 1, window.size do
    missing = missing - window.units[i]
    if missing <= 0 then return secondsUntilSlotLeft(window.slots[i], window.seconds) end
  end
  return window.seconds
end

-- 1. Since when the counts are whole. The clock may have been set back since.
local since = tonumber(redis.call('GET', markerKey))
if since == nil or since > nowMs then
  since = nowMs
  redis.call('SET', markerKey, string.format('%.0f', since))
end

-- 2. What is stored.
local stored, isKnown = {}, false
local fields = redis.call('HGETALL', stateKey)
for i = 1, #fields, 2 do
  isKnown = true
  stored[fields[i]] = unpackWindow(fields[i + 1], tonumber(string.match(fields[i], ':(%d+)$')))
end
-- The age and not the date of the key: Redis's clock need not agree with the one that dated it.
local isFull = not isKnown and since > 0 and nowMs - ageMs <= since + CLOCKS_APART_MS

-- 3. The window of each rule, with what the key owes.
local rules, isChanged = {}, false
for i = 4, #ARGV, 4 do
  local field = ARGV[i] .. ':' .. ARGV[i + 2]
  local limit, windowSeconds, owed = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local window = stored[field]
  if not window then
    local teacher = teacherOf(windowSeconds, stored)
    window = teacher and learn(windowSeconds, teacher) or newWindow(windowSeconds)
    if isFull then put(window, slotAt(since, windowSeconds), limit) end
  end
  if window.isClamped then isChanged = true end
  rules[#rules + 1] = { field = field, limit = limit, window = window, owed = owed }
end
-- Only now, or a new rule would learn of what is owed and be told of it again.
for _, rule in ipairs(rules) do
  if rule.owed > 0 then
    put(rule.window, rule.window.now, rule.owed)
    isChanged = true
  end
end

-- 4. Ask every limit; when all agree, count it everywhere.
local fits = true
for _, rule in ipairs(rules) do
  rule.wait = 0
  if cost > math.max(0, rule.limit - rule.window.total) then
    fits = false
    rule.wait = secondsUntilFits(rule.window, rule.limit)
  end
end
local isAdmitted = isTaking and fits
if isAdmitted and cost > 0 then
  isChanged = true
  for _, rule in ipairs(rules) do put(rule.window, rule.window.now, cost) end
end

-- 5. Store. Fields of rules that are gone are dropped.
if isChanged then
  local longest, kept = 0, {}
  for _, rule in ipairs(rules) do
    redis.call('HSET', stateKey, rule.field, packWindow(rule.window))
    kept[rule.field] = true
    longest = math.max(longest, rule.window.seconds)
  end
  for field in pairs(stored) do
    if not kept[field] then redis.call('HDEL', stateKey, field) end
  end
  redis.call('PEXPIRE', stateKey, string.format('%.0f', math.ceil(longest * 1000 * SLOTS_COUNTED / SLOTS_PER_WINDOW) + 1))
end

local answer = { isAdmitted and 1 or 0 }
for _, rule in ipairs(rules) do
  local window = rule.window
  answer[#answer + 1] = math.max(0, rule.limit - window.total)
  answer[#answer + 1] = window.size == 0 and 0 or secondsUntilSlotLeft(window.slots[1], window.seconds)
  answer[#answer + 1] = rule.wait
end
return answer
`;

const BEGIN = `
local since = tonumber(redis.call('GET', KEYS[1]))
if since == nil or since > nowMs or nowMs - since < ${FIRST_START_MS} then redis.call('SET', KEYS[1], '0') end
return 1
`;

/** Decides. Keys: the state, the marker. Arguments: cost, 1 to take or 0 to ask, age, then name, limit, window, owed. */
export function decideScript(clock: string = REDIS_CLOCK): string {
  return clock + DECIDE;
}

/** Notes in a marker that nothing was lost, because nothing was ever counted. */
export function beginScript(clock: string = REDIS_CLOCK): string {
  return clock + BEGIN;
}
