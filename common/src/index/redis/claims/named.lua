-- Takes those of some accounts that are due and free.
-- ARGV: from 9 on, of each account: tenant, member.
-- Returns the time, the end of the lease, the fence before the first one's, and of each account, list by list: member,
-- tenant, attempts, schedule, record.
local overall, overall_from = room('', tonumber(ARGV[6]), tonumber(ARGV[7]))
local tenants, by_name = {}, {}
for i = 9, #ARGV, 2 do
    local name, member = ARGV[i], ARGV[i + 1]
    local tenant = by_name[name]
    if not tenant then
        tenant = tenant_of(name)
        by_name[name], tenants[#tenants + 1] = tenant, tenant
        tenant.is_paused = is_paused(name)
    end
    local entry = { member = member, score = now, lists = {} }
    for _, list in ipairs(tenant.lists) do
        local at = tonumber(redis.call('ZSCORE', list.key, member) or now + 1)
        if at <= now then
            entry.score = math.min(entry.score, at)
            entry.lists[#entry.lists + 1] = list
        end
    end
    local ends, attempts = hold_of(redis.call('HGET', HOLDS, member))
    entry.attempts = attempts
    local is_free = ends <= now and #entry.lists > 0 and not tenant.is_paused
    if is_free and tenant.room > 0 and #taken < math.min(limit, overall) then
        take(tenant, entry)
        -- So that an account that is named twice is taken once.
        flush(tenant)
    end
end
return finish(tenants, overall_from)
