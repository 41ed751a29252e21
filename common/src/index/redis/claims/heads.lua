-- The first entries of several lists from after a place on.
-- KEYS: the lists. ARGV: the highest score; how many of each; score and member of the place, where there is one.
-- Returns {member, score, …} of each list.

local heads = {}
for i, list in ipairs(KEYS) do
    local first = 0
    if ARGV[3] then
        local before, at = rank(list, ARGV[3], ARGV[4])
        first = before + at
    end
    local stop = math.min(first + ARGV[2], redis.call('ZCOUNT', list, '-inf', ARGV[1]))
    heads[i] = stop > first and redis.call('ZRANGE', list, first, stop - 1, 'WITHSCORES') or {}
end
return heads
