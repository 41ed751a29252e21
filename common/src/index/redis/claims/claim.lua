-- Takes accounts that are due, one of each tenant in turn, in each the most overdue first.
-- Returns the time, the end of the lease, the fence before the first one's, and of each account, list by list: member,
-- tenant, attempts, schedule, record.
local MOST_EXAMINED = 1000 + 2 * limit
local overall, overall_from = room('', tonumber(ARGV[6]), tonumber(ARGV[7]))
local most, examined = math.min(limit, overall), 0
local chunk = math.min(100, math.max(1, math.ceil(most / math.max(1, #tenants))))

-- The next of a tenant's accounts, the most overdue of both lists first. What is held moves to the end of its hold.
local function fetch(tenant)
    tenant.queue, tenant.next = {}, 1
    while #tenant.queue == 0 and not tenant.is_done and examined < MOST_EXAMINED do
        flush(tenant)
        local entries, known = {}, {}
        for _, list in ipairs(tenant.lists) do
            local found = redis.call('ZRANGEBYSCORE', list.key, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, chunk)
            for i = 1, #found, 2 do
                local entry = known[found[i]]
                if not entry then
                    entry = { member = found[i], score = tonumber(found[i + 1]), lists = {} }
                    known[found[i]] = entry
                    entries[#entries + 1] = entry
                end
                entry.score = math.min(entry.score, tonumber(found[i + 1]))
                entry.lists[#entry.lists + 1] = list
            end
        end
        table.sort(entries, function(one, other)
            return one.score < other.score
        end)
        local members = {}
        for i = 1, math.min(chunk, #entries) do
            members[i] = entries[i].member
        end
        tenant.is_done = #entries < chunk
        local holds = #members > 0 and redis.call('HMGET', HOLDS, unpack(members)) or {}
        for i = 1, #members do
            local ends, attempts = hold_of(holds[i])
            if ends > now then
                put_aside(tenant, entries[i], ends)
            else
                entries[i].attempts = attempts
                tenant.queue[#tenant.queue + 1] = entries[i]
            end
        end
        examined = examined + #members
    end
    return #tenant.queue > 0
end

local waiting, is_taken = tenants, {}
while #taken < most and #waiting > 0 do
    local still = {}
    for _, tenant in ipairs(waiting) do
        if #taken == most then
            break
        end
        if tenant.room > 0 and (tenant.queue and tenant.queue[tenant.next] or fetch(tenant)) then
            local entry = tenant.queue[tenant.next]
            -- A scheduled account whose tenant changed is in the lists of two.
            if not is_taken[entry.member] then
                is_taken[entry.member] = true
                take(tenant, entry)
            end
            tenant.next = tenant.next + 1
            still[#still + 1] = tenant
        end
    end
    waiting = still
end
return finish(tenants, overall_from)
