-- The first entries of several lists from after a place on.
-- KEYS: the lists. ARGV: the highest score; how many of each; score and member of the place, where there is one.
-- Returns {member, score, …} of each list.

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

-- How many entries of a list stand at a place or before it.
local function passed(list, score, member)
    local at = redis.call('ZSCORE', list, member)
    if at and tonumber(at) == tonumber(score) then
        return redis.call('ZRANK', list, member) + 1
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
    return low
end

local heads = {}
for i, list in ipairs(KEYS) do
    local first = 0
    if ARGV[3] then
        first = passed(list, ARGV[3], ARGV[4])
    end
    local stop = math.min(first + ARGV[2], redis.call('ZCOUNT', list, '-inf', ARGV[1]))
    heads[i] = stop > first and redis.call('ZRANGE', list, first, stop - 1, 'WITHSCORES') or {}
end
return heads
