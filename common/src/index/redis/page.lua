-- Part of a list, with the records: up to `count` members in order, from after a place on.
-- KEYS: list, accounts.
-- ARGV: 'oldest' or 'newest' first; lowest and highest score; count; score and member of the place, where there is one.
-- Returns {member, score, …} and {record, …}.
local list, accounts = KEYS[1], KEYS[2]
local oldest_first = ARGV[1] == 'oldest'

-- The order Redis keeps members of one score in. Lua's own comparison follows the server's locale.
local function is_before(one, other)
    for i = 1, math.min(#one, #other) do
        local a, b = one:byte(i), other:byte(i)
        if a ~= b then
            return a < b
        end
    end
    return #one < #other
end

-- How many entries stand before a place, in ascending order, and whether one stands at it (0 or 1).
local function rank(score, member)
    local at = redis.call('ZSCORE', list, member)
    if at and tonumber(at) == tonumber(score) then
        return redis.call('ZRANK', list, member), 1
    end
    local low = redis.call('ZCOUNT', list, '-inf', '(' .. score)
    local high = low + redis.call('ZCOUNT', list, score, score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_before(redis.call('ZRANGE', list, middle, middle)[1], member) then
            low = middle + 1
        else
            high = middle
        end
    end
    return low, 0
end

local first, stop, command = 0, 0, 'ZRANGE'
if oldest_first then
    stop = redis.call('ZCOUNT', list, '-inf', ARGV[3])
else
    stop = redis.call('ZCOUNT', list, ARGV[2], '+inf')
    command = 'ZREVRANGE'
end
if ARGV[5] then
    local before, at = rank(ARGV[5], ARGV[6])
    if oldest_first then
        first = before + at
    else
        first = redis.call('ZCARD', list) - before
    end
end
local last = math.min(first + ARGV[4], stop) - 1
if last < first then
    return {{}, {}}
end
local entries = redis.call(command, list, first, last, 'WITHSCORES')
local members = {}
for i = 1, #entries, 2 do
    members[#members + 1] = entries[i]
end
return {entries, redis.call('HMGET', accounts, unpack(members))}
