/**
 * The Lua that decides all rate limits of one key inside Redis: one step, all or nothing, by Redis's own clock. The
 * arithmetic is that of `memory/sliding-window.ts`. What goes in and comes out is packed by `redis-windows.ts`.
 *
 * The state of a key is one hash: per rule a field `<name>:<windowSeconds>` with MessagePack of `[first end, units,
 * distance to the next end, units, …]`: entries as in memory, each with the latest moment of its uses, oldest first.
 *
 * The marker of a bucket says since when its counts are complete, in milliseconds; `0`: from the beginning. If it is
 * missing, counts were lost, and a key is assumed to have used all of every limit until then.
 */
import { CLOCK_JUMP_MS, MINUTE_MS } from '../../foundation/clock.ts';
import { FORMER_WINDOWS_MAX } from '../memory/rule-windows.ts';
import { EXACT_LIMIT_MAX, PARTS_PER_WINDOW } from '../rate-limiter.ts';

/** A marker younger than this was created by another node during the same first start. */
const FIRST_START_MS: number = MINUTE_MS;

/** Sets `nowMs`. Separate, so that tests can replace the time. */
const REDIS_CLOCK = `
local time = redis.call('TIME')
local nowMs = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
`;

/** All numbers are whole and below 2^53, so that Lua's doubles are exact. */
const DECIDE = `
local EXACT_LIMIT_MAX, PARTS_PER_WINDOW = ${EXACT_LIMIT_MAX}, ${PARTS_PER_WINDOW}
local FORMER_WINDOWS_MAX, CLOCKS_APART_MS = ${FORMER_WINDOWS_MAX}, ${CLOCK_JUMP_MS}

local stateKey, markerKey = KEYS[1], KEYS[2]
local cost, isTaking, ageMs = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])

local function partMsOf(windowSeconds)
  return windowSeconds * 1000 / PARTS_PER_WINDOW
end

local function entryEndMs(ms, windowSeconds, limit)
  if limit <= EXACT_LIMIT_MAX then return ms end
  local partMs = partMsOf(windowSeconds)
  return math.floor(ms / partMs) * partMs + partMs - 1
end

local function newWindow(windowSeconds)
  return { seconds = windowSeconds, ends = {}, units = {}, size = 0, total = 0 }
end

-- Entries come in order; what would come before the last one joins it.
local function put(window, endMs, units)
  if units == 0 or endMs + window.seconds * 1000 <= nowMs then return end
  if window.size == 0 or endMs > window.ends[window.size] then
    window.size = window.size + 1
    window.ends[window.size] = endMs
    window.units[window.size] = 0
  end
  window.units[window.size] = window.units[window.size] + units
  window.total = window.total + units
end

-- One that lies further ahead than the part that is filling, because Redis now runs on a slower clock, is counted as now,
-- and must be stored so: it is neither lost nor counted for longer than a window.
local function unpackWindow(packed, windowSeconds)
  local window, numbers, endMs = newWindow(windowSeconds), cmsgpack.unpack(packed), 0
  local latestMs = entryEndMs(nowMs, windowSeconds, EXACT_LIMIT_MAX + 1)
  for i = 1, #numbers, 2 do
    endMs = endMs + numbers[i]
    if endMs > latestMs then window.isClamped = true end
    put(window, endMs > latestMs and nowMs or endMs, numbers[i + 1])
  end
  return window
end

local function packWindow(window)
  local numbers, before = {}, 0
  for i = 1, window.size do
    numbers[i * 2 - 1] = window.ends[i] - before
    numbers[i * 2] = window.units[i]
    before = window.ends[i]
  end
  return cmsgpack.pack(numbers)
end

local function countedSince(sinceMs, window)
  local units = 0
  for i = 1, window.size do
    if math.min(nowMs, window.ends[i]) > sinceMs then units = units + window.units[i] end
  end
  return units
end

-- A new rule learns from the window that has counted most in the time that it looks back.
local function teacherOf(windowSeconds, windows)
  local teacher, most
  for _, window in pairs(windows) do
    local units = countedSince(nowMs - windowSeconds * 1000, window)
    local isBetter = not teacher or units > most
    if teacher and units == most then
      isBetter = window.seconds < teacher.seconds
        or window.seconds == teacher.seconds and (window.ends[window.size] or 0) > (teacher.ends[teacher.size] or 0)
    end
    if isBetter then teacher, most = window, units end
  end
  return teacher
end

-- What another window counted is put where it happened at the latest, so that nothing leaves too early.
local function learn(windowSeconds, limit, teacher)
  local window = newWindow(windowSeconds)
  for i = 1, teacher.size do
    local usedMs = math.min(nowMs, teacher.ends[i])
    if usedMs > nowMs - windowSeconds * 1000 then
      put(window, entryEndMs(usedMs, windowSeconds, limit), teacher.units[i])
    end
  end
  return window
end

local function secondsUntilLeft(window, i)
  return math.max(0, math.ceil((window.ends[i] + window.seconds * 1000 - nowMs) / 1000))
end

local function secondsUntilFits(window, limit)
  if cost > limit then return window.seconds end
  local missing = window.total + cost - limit
  for i = 1, window.size do
    missing = missing - window.units[i]
    if missing <= 0 then return secondsUntilLeft(window, i) end
  end
  return window.seconds
end

-- 1. Since when the counts are whole. The clock may have been set back since.
local since, hasLost = tonumber(redis.call('GET', markerKey)), false
if since == nil or since > nowMs then
  hasLost = since == nil
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
    window = teacher and learn(windowSeconds, limit, teacher) or newWindow(windowSeconds)
    if isFull then put(window, entryEndMs(since, windowSeconds, limit), limit) end
  end
  if window.isClamped then isChanged = true end
  rules[#rules + 1] = { field = field, limit = limit, window = window, owed = owed }
end
-- Only now, or a new rule would learn of what is owed and be told of it again.
for _, rule in ipairs(rules) do
  if rule.owed > 0 then
    put(rule.window, entryEndMs(nowMs, rule.window.seconds, rule.limit), rule.owed)
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
  for _, rule in ipairs(rules) do put(rule.window, entryEndMs(nowMs, rule.window.seconds, rule.limit), cost) end
end

-- 5. Store. Fields of rules that are gone stay while they count something, for the rule may come back: those that look
-- back furthest.
if isChanged then
  local longest, isStored, former = 0, {}, {}
  for _, rule in ipairs(rules) do
    redis.call('HSET', stateKey, rule.field, packWindow(rule.window))
    isStored[rule.field] = true
    longest = math.max(longest, rule.window.seconds)
  end
  for field, window in pairs(stored) do
    if not isStored[field] then
      if window.total == 0 then redis.call('HDEL', stateKey, field) else former[#former + 1] = field end
    end
  end
  table.sort(former, function(a, b)
    if stored[a].seconds ~= stored[b].seconds then return stored[a].seconds > stored[b].seconds end
    return a < b
  end)
  for i, field in ipairs(former) do
    if i > FORMER_WINDOWS_MAX then redis.call('HDEL', stateKey, field)
    else longest = math.max(longest, stored[field].seconds) end
  end
  redis.call('PEXPIRE', stateKey, string.format('%.0f', math.ceil(longest * 1000 + partMsOf(longest)) + 1))
end

local answer = { isAdmitted and 1 or 0, hasLost and 1 or 0 }
for _, rule in ipairs(rules) do
  local window = rule.window
  answer[#answer + 1] = math.max(0, rule.limit - window.total)
  answer[#answer + 1] = window.size == 0 and 0 or secondsUntilLeft(window, 1)
  answer[#answer + 1] = rule.wait
end
return answer
`;

const BEGIN = `
local since = tonumber(redis.call('GET', KEYS[1]))
if since == nil or since > nowMs or nowMs - since < ${FIRST_START_MS} then redis.call('SET', KEYS[1], '0') end
return 1
`;

/**
 * The script that checks limits. Keys: the state, the marker. Arguments: cost, 1 to take or 0 to ask, age, then name,
 * limit, window, owed.
 */
export function decideScript(clock: string = REDIS_CLOCK): string {
  return clock + DECIDE;
}

/** The script that sets a marker before anything was counted. */
export function beginScript(clock: string = REDIS_CLOCK): string {
  return clock + BEGIN;
}
