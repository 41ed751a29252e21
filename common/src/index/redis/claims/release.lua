-- Lets accounts be claimed again at once.
-- KEYS: the tenants by their first due account, the tenants by their first scheduled account, schedules, holds,
--       what holds put aside.
-- ARGV: of each claim: member, worker, fence; of a hold without a worker: member, '', ''; of any: member, '\n', ''.
-- Returns how many there were.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local touched, count = {}, 0
for i = 1, #ARGV, 3 do
    local member = ARGV[i]
    local ends, fence, attempts, worker, tenant =
        string.match(redis.call('HGET', KEYS[4], member) or '', '^(%d+)\n(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)$')
    local is_named = worker == ARGV[i + 1] or ARGV[i + 1] == '\n'
    local is_meant = ends and is_named and (fence == ARGV[i + 2] or ARGV[i + 2] == '')
    if is_meant and tonumber(ends) > now then
        count = count + 1
        if attempts == '0' then
            redis.call('HDEL', KEYS[4], member)
        else
            local lines = { string.format('%.0f', now), fence, attempts, '', tenant }
            redis.call('HSET', KEYS[4], member, table.concat(lines, '\n'))
        end
        local was_due = redis.call('ZSCORE', KEYS[5], member) or string.format('%.0f', now)
        redis.call('ZREM', KEYS[5], member)
        for _, tenants in ipairs({ KEYS[1], KEYS[2] }) do
            local list = tenants .. ':' .. tenant
            local at = redis.call('ZSCORE', list, member)
            if at and tonumber(at) > tonumber(was_due) and tonumber(at) <= tonumber(ends) then
                redis.call('ZADD', list, 'XX', was_due, member)
            end
        end
        touched[tenant] = true
    end
end
for tenant in pairs(touched) do
    for _, tenants in ipairs({ KEYS[1], KEYS[2] }) do
        note_first(tenants, tenants .. ':' .. tenant, tenant)
    end
end
return count
