-- Sets when an account is due for a job, or takes it back.
-- KEYS: the tenants by their first scheduled account, scheduled times. ARGV: member, tenant, when ('' for never).
local member = ARGV[1]
local tenant = string.match(redis.call('HGET', KEYS[2], member) or '', '^%d+\n([^\n]*)$')
if tenant then
    redis.call('HDEL', KEYS[2], member)
    redis.call('ZREM', KEYS[1] .. ':' .. tenant, member)
    note_first(KEYS[1], KEYS[1] .. ':' .. tenant, tenant)
end
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[2], member, ARGV[3] .. '\n' .. ARGV[2])
    redis.call('ZADD', KEYS[1] .. ':' .. ARGV[2], ARGV[3], member)
    note_first(KEYS[1], KEYS[1] .. ':' .. ARGV[2], ARGV[2])
end
