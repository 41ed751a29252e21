-- The order Redis keeps members of one score in. Lua's own comparison follows the server's locale.
-- Stands before other scripts.
local function is_before(one, other)
    for i = 1, math.min(#one, #other) do
        local a, b = one:byte(i), other:byte(i)
        if a ~= b then
            return a < b
        end
    end
    return #one < #other
end

-- How many entries of a list stand before a place, in ascending order, and whether one stands at it (0 or 1).
local function rank(list, score, member)
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

