-- Several lists, each read on from a place of its own. Stands after rank.lua.
-- KEYS: the lists. ARGV: 'oldest' or 'newest' first; the score it ends with; of each list how many entries, and score
--       and member of the place, empty where it is read from its beginning.
-- Returns {member, score, …} of each list.
local is_oldest_first, last_score = ARGV[1] == 'oldest', ARGV[2]
local command = is_oldest_first and 'ZRANGE' or 'ZREVRANGE'

-- How many entries stand before the place or at it, in the order asked for.
local function passed(list, score, member)
    if score == '' then
        return 0
    end
    local before, at = rank(list, score, member)
    if is_oldest_first then
        return before + at
    end
    return redis.call('ZCARD', list) - before
end

local function up_to_the_end(list)
    if is_oldest_first then
        return redis.call('ZCOUNT', list, '-inf', last_score)
    end
    return redis.call('ZCOUNT', list, last_score, '+inf')
end

local heads = {}
for i, list in ipairs(KEYS) do
    local wanted, score, member = unpack(ARGV, 3 * i, 3 * i + 2)
    local first = passed(list, score, member)
    local stop = math.min(first + wanted, up_to_the_end(list))
    heads[i] = stop > first and redis.call(command, list, first, stop - 1, 'WITHSCORES') or {}
end
return heads
