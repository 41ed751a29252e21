-- Ends a claim.
-- KEYS: the tenants by their first due account, the tenants by their first scheduled account, schedules, holds,
--       what holds put aside.
-- ARGV: member, worker, fence; 'settled', 'failed' or 'gone'; how long it settles; before when it is not due (0: not
--       said), for a failure also not claimed; the longest wait after the first one, after any, and a number from 0 to 1, drawn by chance.
-- Returns 1; 0 where the claim is not held.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member = ARGV[1]
local ends, fence, attempts, worker, tenant =
    string.match(redis.call('HGET', KEYS[4], member) or '', '^(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)$')
if fence ~= ARGV[3] or worker ~= ARGV[2] or tonumber(ends) <= now then
    return 0
end

local due, plan = KEYS[1] .. ':' .. tenant, KEYS[2] .. ':' .. tenant
if ARGV[4] == 'gone' then
    redis.call('HDEL', KEYS[4], member)
    redis.call('ZREM', KEYS[5], member)
    redis.call('ZREM', due, member)
    redis.call('ZREM', plan, member)
    redis.call('HDEL', KEYS[3], member)
else
    local till = now + ARGV[5]
    if ARGV[4] == 'failed' then
        local longest = math.min(tonumber(ARGV[8]), ARGV[7] * 2 ^ math.min(tonumber(attempts), 64))
        till = math.max(tonumber(ARGV[6]), now + math.floor(longest * ARGV[9]))
        attempts = string.format('%.0f', attempts + 1)
    else
        attempts = '0'
        local at = string.match(redis.call('HGET', KEYS[3], member) or '', '^(%d+)\n')
        if at and tonumber(at) <= now then
            redis.call('HDEL', KEYS[3], member)
            redis.call('ZREM', plan, member)
        end
    end
    local next = string.format('%.0f', math.max(till, tonumber(ARGV[6])))
    till = string.format('%.0f', till)
    redis.call('HSET', KEYS[4], member, table.concat({ till, fence, attempts, '', tenant }, '\n'))
    -- A later time than the lease's end is what the index says by now, and stays.
    for list, to in pairs({ [due] = next, [plan] = till }) do
        local at = redis.call('ZSCORE', list, member)
        if at and tonumber(at) <= tonumber(ends) then
            redis.call('ZADD', list, 'XX', to, member)
        end
    end
end
note_first(KEYS[1], due, tenant)
note_first(KEYS[2], plan, tenant)
return 1
