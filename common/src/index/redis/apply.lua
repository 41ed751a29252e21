-- Writes accounts that are still as they were read, and moves them in the lists and counts; says which were not.
-- KEYS: accounts, counts, dropped, the tenants by when their first account is due, layout, and the lists.
-- ARGV: the layout's id; n, d; the numbers in KEYS of d due lists, each with its tenant; n members; then for each account: the record
--       that was read, the new one ('' for none), how many lists it goes into, leaves, and counts it changes; the
--       numbers in KEYS of the lists it goes into, each with its score; of those it leaves; the counts' fields, each
--       with its change.
-- Returns the places, from 1, of the accounts that were not as read. Scores and records stay strings all the way.
if redis.call('EXISTS', KEYS[3]) == 1 then
    return redis.error_reply('DROPPED generation')
end
if (redis.call('HGET', KEYS[5], 'id') or '') ~= ARGV[1] then
    return redis.error_reply('LAYOUT changed')
end
local n, first = tonumber(ARGV[2]), 3 + 2 * ARGV[3]
local stored = redis.call('HMGET', KEYS[1], unpack(ARGV, first + 1, first + n))
local records, removed, added, dropped, counted, changed = {}, {}, {}, {}, {}, {}

local function group(groups, name)
    local found = groups[name]
    if not found then
        found = {}
        groups[name] = found
    end
    return found
end

local at = first + n + 1
for i = 1, n do
    local member = ARGV[first + i]
    local drops = at + 5 + 2 * ARGV[at + 2]
    local counts = drops + ARGV[at + 3]
    local next = counts + 2 * ARGV[at + 4]
    if (stored[i] or '') ~= ARGV[at] then
        changed[#changed + 1] = i
    else
        if ARGV[at + 1] == '' then
            removed[#removed + 1] = member
        else
            records[#records + 1] = member
            records[#records + 1] = ARGV[at + 1]
        end
        for j = at + 5, drops - 1, 2 do
            local entries = group(added, ARGV[j])
            entries[#entries + 1] = ARGV[j + 1]
            entries[#entries + 1] = member
        end
        for j = drops, counts - 1 do
            local members = group(dropped, ARGV[j])
            members[#members + 1] = member
        end
        for j = counts, next - 1, 2 do
            counted[ARGV[j]] = (counted[ARGV[j]] or 0) + ARGV[j + 1]
        end
    end
    at = next
end

-- A server that is full refuses a script at its first write if that needs memory, and at no later one.
for list, entries in pairs(added) do
    redis.call('ZADD', KEYS[tonumber(list)], unpack(entries))
end
for list, members in pairs(dropped) do
    redis.call('ZREM', KEYS[tonumber(list)], unpack(members))
end
for i = 4, first, 2 do
    if added[ARGV[i]] or dropped[ARGV[i]] then
        note_first(KEYS[4], KEYS[tonumber(ARGV[i])], ARGV[i + 1])
    end
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
