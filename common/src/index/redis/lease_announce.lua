-- Notes that a member is here, renews its leases, and says who is here and who holds what.
-- KEYS: members, leases. ARGV: member, milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local till = string.format('%.0f', now + ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], till, ARGV[1])
local holders = {}
local leases = redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
    local ends, holder = string.match(leases[i + 1], '^(%d+) (.*)$')
    if holder == ARGV[1] then
        redis.call('HSET', KEYS[2], leases[i], till .. ' ' .. holder)
    end
    if holder == ARGV[1] or (ends and tonumber(ends) > now) then
        holders[#holders + 1] = leases[i]
        holders[#holders + 1] = holder
    end
end
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < tonumber(ARGV[2]) then
        redis.call('PEXPIRE', key, ARGV[2])
    end
end
return { redis.call('ZRANGE', KEYS[1], 0, -1), holders }
