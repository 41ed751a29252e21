-- Writes accounts that are all still as they were read, and moves them in the lists and counts. If some are not, writes
-- nothing and says which, by their places from 1.
-- KEYS: accounts, counts, dropped, the tenants by when their first account is due, layout, and the lists; due lists first.
-- ARGV: the layout's id; how many accounts n, and due lists; n members, each with its new record ('' for none); the n
--       records that were read; for each list its tenant if it is a due list, how many go into it and leave it, the
--       scores and members of those that go into it, the members of those that leave it; then the counts' fields, each
--       with its change. Scores and records stay strings all the way.
if redis.call('EXISTS', KEYS[3]) == 1 then
    return redis.error_reply('DROPPED generation')
end
if (redis.call('HGET', KEYS[5], 'id') or '') ~= ARGV[1] then
    return redis.error_reply('LAYOUT changed')
end
local n, due = tonumber(ARGV[2]), 5 + ARGV[3]
local members = {}
for i = 1, n do
    members[i] = ARGV[2 + 2 * i]
end
local stored = redis.call('HMGET', KEYS[1], unpack(members))
local at = 3 + 2 * n
local changed, removed = {}, {}
for i = 1, n do
    if (stored[i] or '') ~= ARGV[at + i] then
        changed[#changed + 1] = i
    elseif ARGV[3 + 2 * i] == '' then
        removed[#removed + 1] = members[i]
    end
end
if #changed > 0 then
    return changed
end

-- A server that is full refuses a script at its first write if that needs memory, and at no later one.
at = at + n + 1
for list = 6, #KEYS do
    local tenant
    if list <= due then
        tenant, at = ARGV[at], at + 1
    end
    local added, left = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    at = at + 2
    if added > 0 then
        redis.call('ZADD', KEYS[list], unpack(ARGV, at, at + 2 * added - 1))
        at = at + 2 * added
    end
    if left > 0 then
        redis.call('ZREM', KEYS[list], unpack(ARGV, at, at + left - 1))
        at = at + left
    end
    if tenant then
        note_first(KEYS[4], KEYS[list], tenant)
    end
end
-- The records come after the lists: should a list be of another type, nothing counts as written.
if #removed == 0 then
    redis.call('HSET', KEYS[1], unpack(ARGV, 4, 3 + 2 * n))
else
    redis.call('HDEL', KEYS[1], unpack(removed))
    for i = 1, n do
        if ARGV[3 + 2 * i] ~= '' then
            redis.call('HSET', KEYS[1], members[i], ARGV[3 + 2 * i])
        end
    end
end
for i = at, #ARGV, 2 do
    if redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) == 0 then
        redis.call('HDEL', KEYS[2], ARGV[i])
    end
end
return {}
