-- Sets when an account is due for a job, or takes it back.
-- KEYS: the tenants by their first scheduled account, scheduled times. ARGV: member, tenant, when ('' for never).
local function refresh(tenant)
    local first = redis.call('ZRANGE', KEYS[1] .. ':' .. tenant, 0, 0, 'WITHSCORES')
    if first[2] then
        redis.call('ZADD', KEYS[1], first[2], tenant)
    else
        redis.call('ZREM', KEYS[1], tenant)
    end
end

local member = ARGV[1]
local tenant = string.match(redis.call('HGET', KEYS[2], member) or '', '^%d+\n([^\n]*)$')
if tenant then
    redis.call('HDEL', KEYS[2], member)
    redis.call('ZREM', KEYS[1] .. ':' .. tenant, member)
    refresh(tenant)
end
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[2], member, ARGV[3] .. '\n' .. ARGV[2])
    redis.call('ZADD', KEYS[1] .. ':' .. ARGV[2], ARGV[3], member)
    refresh(ARGV[2])
end
