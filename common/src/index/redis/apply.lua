-- Writes accounts that are still as they were read, and moves them in the lists and counts; says which were not.
-- KEYS: accounts, counts, dropped, and the lists.
-- ARGV: n; n members; then for each account: the record that was read, the new one ('' for none), its score,
--       how many lists it goes into, leaves, and counts it changes; the numbers of these lists in KEYS;
--       the counts' fields, each with its change.
-- Returns the places, from 1, of the accounts that were not as read. Scores and records stay strings all the way.
if redis.call('EXISTS', KEYS[3]) == 1 then
    return redis.error_reply('DROPPED generation')
end
local n = tonumber(ARGV[1])
local stored = redis.call('HMGET', KEYS[1], unpack(ARGV, 2, n + 1))
local records, removed, added, dropped, counted, changed = {}, {}, {}, {}, {}, {}

local function append(groups, name, ...)
    local group = groups[name]
    if not group then
        group = {}
        groups[name] = group
    end
    for _, value in ipairs({...}) do
        group[#group + 1] = value
    end
end

local at = n + 2
for i = 1, n do
    local member, score = ARGV[i + 1], ARGV[at + 2]
    local drops = at + 6 + ARGV[at + 3]
    local counts = drops + ARGV[at + 4]
    local next = counts + 2 * ARGV[at + 5]
    if (stored[i] or '') ~= ARGV[at] then
        changed[#changed + 1] = i
    else
        if ARGV[at + 1] == '' then
            removed[#removed + 1] = member
        else
            records[#records + 1] = member
            records[#records + 1] = ARGV[at + 1]
        end
        for j = at + 6, drops - 1 do
            append(added, ARGV[j], score, member)
        end
        for j = drops, counts - 1 do
            append(dropped, ARGV[j], member)
        end
        for j = counts, next - 1, 2 do
            counted[ARGV[j]] = (counted[ARGV[j]] or 0) + ARGV[j + 1]
        end
    end
    at = next
end

-- A server that is full refuses a script at its first write if that needs memory, and at no later one.
for list, members in pairs(added) do
    redis.call('ZADD', KEYS[tonumber(list)], unpack(members))
end
for list, members in pairs(dropped) do
    redis.call('ZREM', KEYS[tonumber(list)], unpack(members))
end
-- The records come after the lists: should a list be of another type, nothing counts as written.
if #records > 0 then
    redis.call('HSET', KEYS[1], unpack(records))
end
if #removed > 0 then
    redis.call('HDEL', KEYS[1], unpack(removed))
end
for field, change in pairs(counted) do
    if change ~= 0 and redis.call('HINCRBY', KEYS[2], field, change) == 0 then
        redis.call('HDEL', KEYS[2], field)
    end
end
return changed
