-- Sets when an account is due for a job, or takes it back.
-- KEYS: the tenants by their first scheduled account, schedules.
-- ARGV: member, tenant, when ('' for never), why ('' for what was said before).
local member = ARGV[1]
local tenant, why = string.match(redis.call('HGET', KEYS[2], member) or '', '^%d+\n([^\n]*)\n?(.*)$')
if tenant then
    redis.call('HDEL', KEYS[2], member)
    redis.call('ZREM', KEYS[1] .. ':' .. tenant, member)
    note_first(KEYS[1], KEYS[1] .. ':' .. tenant, tenant)
end
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[2], member, table.concat({ ARGV[3], ARGV[2], ARGV[4] ~= '' and ARGV[4] or why }, '\n'))
    redis.call('ZADD', KEYS[1] .. ':' .. ARGV[2], ARGV[3], member)
    note_first(KEYS[1], KEYS[1] .. ':' .. ARGV[2], ARGV[2])
end
