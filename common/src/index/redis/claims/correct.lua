-- Gives back accounts that were claimed and are not due, and puts right what the lists say of them.
-- KEYS: the tenants by their first due account, accounts, the tenants by their first scheduled account, schedules,
--       holds, what holds put aside, rates.
-- ARGV: what to give back of the rate of a tenant, and of all; then of each account: member, tenant, fence, the record
--       as it was read ('' for none), when it is due ('' for never), when to look at its schedule ('' for as it is,
--       'drop').
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local touched = {}

local function refund(field, interval)
    if interval ~= '0' and redis.call('HEXISTS', KEYS[7], field) == 1 then
        redis.call('HINCRBY', KEYS[7], field, '-' .. interval)
    end
end

for i = 3, #ARGV, 6 do
    local member, tenant = ARGV[i], ARGV[i + 1]
    local hold = redis.call('HGET', KEYS[5], member) or ''
    local fence, attempts = string.match(hold, '^%d+\n(%d+)\n(%d+)\n')
    if fence == ARGV[i + 2] then
        if attempts == '0' then
            redis.call('HDEL', KEYS[5], member)
        else
            redis.call('HSET', KEYS[5], member, table.concat({ now, fence, attempts, '', tenant }, '\n'))
        end
        redis.call('ZREM', KEYS[6], member)
        refund(':' .. tenant, ARGV[1])
        refund('', ARGV[2])
    end
    local list = KEYS[1] .. ':' .. tenant
    if (redis.call('HGET', KEYS[2], member) or '') ~= ARGV[i + 3] then
        -- It was written meanwhile: whoever claims next looks again.
        redis.call('ZADD', list, 'XX', now, member)
    elseif ARGV[i + 4] == '' then
        redis.call('ZREM', list, member)
    else
        redis.call('ZADD', list, 'XX', ARGV[i + 4], member)
    end
    local plan = KEYS[3] .. ':' .. tenant
    if ARGV[i + 5] == 'drop' then
        redis.call('ZREM', plan, member)
        redis.call('HDEL', KEYS[4], member)
    elseif ARGV[i + 5] ~= '' then
        redis.call('ZADD', plan, 'XX', ARGV[i + 5], member)
    end
    touched[tenant] = true
end
for tenant in pairs(touched) do
    for _, tenants in ipairs({ KEYS[1], KEYS[3] }) do
        note_first(tenants, tenants .. ':' .. tenant, tenant)
    end
end
