-- Shows accounts that are due, one of each tenant in turn, from some place of each list on, and takes none.
-- ARGV: 12: how many at most; 13: from where on, from 0 for the most overdue to 1.
-- Returns the time, and of each account, list by list: member, tenant, schedule, record.
local most = tonumber(ARGV[12])
local chunk = math.max(1, math.floor(most / math.max(1, #tenants)))

local function look(tenant)
    local entries, known = {}, {}
    for _, list in ipairs(tenant.lists) do
        local count = redis.call('ZCOUNT', list.key, '-inf', text(now))
        local first = math.floor(count * ARGV[13])
        local found = count > 0
                and redis.call('ZRANGE', list.key, first, math.min(first + chunk, count) - 1, 'WITHSCORES')
            or {}
        for i = 1, #found, 2 do
            if not known[found[i]] then
                known[found[i]] = true
                entries[#entries + 1] = { member = found[i], score = tonumber(found[i + 1]), lists = { list } }
            end
        end
    end
    table.sort(entries, function(one, other)
        return one.score < other.score
    end)
    return entries
end

-- What is free of each tenant. What is held moves to the end of its hold.
local longest = 0
for _, tenant in ipairs(tenants) do
    tenant.free = {}
    local entries, members = look(tenant), {}
    for i, entry in ipairs(entries) do
        members[i] = entry.member
    end
    local holds = #members > 0 and redis.call('HMGET', HOLDS, unpack(members)) or {}
    for i, entry in ipairs(entries) do
        local ends = hold_of(holds[i])
        if ends > now then
            put_aside(tenant, entry, ends)
        else
            tenant.free[#tenant.free + 1] = entry.member
        end
    end
    longest = math.max(longest, #tenant.free)
end
finish(tenants, now)

local members, names = {}, {}
for place = 1, longest do
    for _, tenant in ipairs(tenants) do
        if tenant.free[place] and #members < most then
            members[#members + 1] = tenant.free[place]
            names[#names + 1] = tenant.name
        end
    end
end
if #members == 0 then
    return { text(now), {}, {}, {}, {} }
end
local scheduled = redis.call('HMGET', SCHEDULES, unpack(members))
return { text(now), members, names, scheduled, redis.call('HMGET', ACCOUNTS, unpack(members)) }
