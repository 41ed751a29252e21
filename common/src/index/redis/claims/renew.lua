-- Holds a claim for another while.
-- KEYS: holds, paused. ARGV: member, worker, fence, lease.
-- Returns until when it is held, and until when its tenant is paused ('' for not); nothing where it is not held.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ends, fence, attempts, worker, tenant =
    string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)$')
if fence ~= ARGV[3] or worker ~= ARGV[2] or tonumber(ends) <= now then
    return false
end
local till = string.format('%.0f', now + ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ till, fence, attempts, worker, tenant }, '\n'))
local paused = redis.call('ZSCORE', KEYS[2], tenant)
if paused and tonumber(paused) <= now then
    paused = false
end
return { till, paused or '' }
