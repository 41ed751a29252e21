-- Part of one list, or of several as one, with the records: up to `count` members in order, from after a place on.
-- KEYS: accounts, layout, the lists; no member is in two of them.
-- ARGV: the layout's id; 'oldest' or 'newest' first; lowest and highest score; count; score and member of the place,
--       where there is one.
-- Returns {member, score, …} and {record, …}.
if (redis.call('HGET', KEYS[2], 'id') or '') ~= ARGV[1] then
    return redis.error_reply('LAYOUT changed')
end
local oldest_first, count = ARGV[2] == 'oldest', tonumber(ARGV[5])
local command, sign = 'ZRANGE', 1
if not oldest_first then
    command, sign = 'ZREVRANGE', -1
end

-- Reads a list on, twice as much as before, to its head; says whether there is any more.
local function read_on(source)
    local last = math.min(source.at + source.step, source.stop) - 1
    if last < source.at then
        return false
    end
    source.entries = redis.call(command, source.list, source.at, last, 'WITHSCORES')
    source.at, source.step, source.head = last + 1, 2 * source.step, 1
    source.key = sign * source.entries[2]
    return true
end

local function next_of(source)
    source.head = source.head + 2
    if not source.entries[source.head] then
        return read_on(source)
    end
    source.key = sign * source.entries[source.head + 1]
    return true
end

local function open(list, step)
    local source = { list = list, at = 0, step = step }
    if oldest_first then
        source.stop = redis.call('ZCOUNT', list, '-inf', ARGV[4])
    else
        source.stop = redis.call('ZCOUNT', list, ARGV[3], '+inf')
    end
    if source.stop > 0 and ARGV[6] then
        local before, at = rank(list, ARGV[6], ARGV[7])
        if oldest_first then
            source.at = before + at
        else
            source.at = redis.call('ZCARD', list) - before
        end
    end
    return read_on(source) and source
end

-- One list is read at once; of several, most are short or far away.
local heap, FIRST_STEP = {}, 16
local lists = #KEYS - 2
for i = 3, #KEYS do
    heap[#heap + 1] = open(KEYS[i], lists == 1 and count or math.min(count, FIRST_STEP)) or nil
end

-- Of two lists at one score, whether the first goes first.
local function wins_tie(one, other)
    return is_before(one.entries[one.head], other.entries[other.head]) == oldest_first
end

local function sift(place)
    local source = heap[place]
    while source do
        local child, next = 2 * place, heap[2 * place]
        local right = heap[child + 1]
        if right and (right.key < next.key or (right.key == next.key and wins_tie(right, next))) then
            child, next = child + 1, right
        end
        if not next or source.key < next.key or (source.key == next.key and wins_tie(source, next)) then
            break
        end
        heap[place], place = next, child
    end
    heap[place] = source
end

for place = math.floor(#heap / 2), 1, -1 do
    sift(place)
end
local entries, members = {}, {}
while heap[1] and #members < count do
    local source = heap[1]
    members[#members + 1] = source.entries[source.head]
    entries[#entries + 1] = source.entries[source.head]
    entries[#entries + 1] = source.entries[source.head + 1]
    if not next_of(source) then
        heap[1] = heap[#heap]
        heap[#heap] = nil
    end
    sift(1)
end
if #members == 0 then
    return {{}, {}}
end
return {entries, redis.call('HMGET', KEYS[1], unpack(members))}
