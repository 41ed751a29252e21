-- Leaves a tenant alone until a time, unless it is left alone for longer.
-- KEYS: paused. ARGV: tenant, until when.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local set = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if tonumber(ARGV[2]) > math.max(set, now) then
    redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
