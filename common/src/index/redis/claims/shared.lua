-- What the scripts that claim have in common; it stands before each of them.
-- KEYS: the tenants by their first due account, accounts, dropped, the tenants by their first scheduled account,
--       schedules, holds, what holds put aside, paused, turns, rates, fence, swept.
-- ARGV: worker; how many at most; the lease; how long one claim takes of the rate of a tenant and how many may be
--       claimed at once, and the same of all (0: no rate); how long a hold is kept after its end for its attempts.
-- Times are microseconds since the Unix epoch. A list of due or scheduled accounts is its tenants' key, ':', tenant.
-- A hold is: until when, fence, attempts, worker, tenant, a line each.
if redis.call('EXISTS', KEYS[3]) == 1 then
    return redis.error_reply('DROPPED generation')
end
local DUE, ACCOUNTS, SCHEDULED, SCHEDULES, HOLDS, ASIDE = KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local PAUSED, TURNS, RATES, FENCE, SWEPT = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local TURN_KEPT, RATES_KEPT_MS = 3600 * 1000000, 120 * 1000
local worker, limit = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lease_until = now + ARGV[3]

local function text(micros)
    return string.format('%.0f', micros)
end

-- How many claims a rate lets through now, and from when on they count.
local function room(field, interval, burst)
    if interval == 0 then
        return limit, now
    end
    local from = math.max(now, tonumber(redis.call('HGET', RATES, field) or 0))
    return math.max(0, math.floor((now + interval * burst - from) / interval)), from
end

local function spend(field, interval, from, count)
    if interval ~= 0 and count > 0 then
        redis.call('HSET', RATES, field, text(from + interval * count))
        redis.call('PEXPIRE', RATES, RATES_KEPT_MS)
    end
end

local function hold_of(value)
    local ends, attempts = string.match(value or '', '^(%d+)\n%d+\n(%d+)\n')
    return tonumber(ends or 0), attempts or '0'
end

-- A tenant, and what is done to its lists: entries are moved to when they can be claimed next.
local function tenant_of(name)
    local interval = tonumber(ARGV[4])
    local left, from = room(':' .. name, interval, tonumber(ARGV[5]))
    local lists = {
        { tenants = DUE, key = DUE .. ':' .. name, moves = {} },
        { tenants = SCHEDULED, key = SCHEDULED .. ':' .. name, moves = {} },
    }
    return { name = name, room = left, from = from, interval = interval, count = 0, lists = lists, aside = {} }
end

local function is_paused(name)
    return tonumber(redis.call('ZSCORE', PAUSED, name) or 0) > now
end

-- Moves what was met of a tenant out of the way.
local function flush(tenant)
    for _, list in ipairs(tenant.lists) do
        if #list.moves > 0 then
            redis.call('ZADD', list.key, 'XX', unpack(list.moves))
            list.moves, list.is_touched = {}, true
        end
    end
    if #tenant.aside > 0 then
        redis.call('ZADD', ASIDE, 'NX', unpack(tenant.aside))
        tenant.aside = {}
    end
end

local function put_aside(tenant, entry, till)
    for _, list in ipairs(entry.lists) do
        list.moves[#list.moves + 1] = text(till)
        list.moves[#list.moves + 1] = entry.member
    end
    tenant.aside[#tenant.aside + 1] = text(entry.score)
    tenant.aside[#tenant.aside + 1] = entry.member
end

local taken = {}

local function take(tenant, entry)
    tenant.room, tenant.count = tenant.room - 1, tenant.count + 1
    entry.tenant = tenant
    put_aside(tenant, entry, lease_until)
    taken[#taken + 1] = entry
end

-- Deletes some of the holds that are over.
local function sweep()
    local found = redis.call('HSCAN', HOLDS, redis.call('GET', SWEPT) or '0', 'COUNT', 10 + 2 * #taken)
    for i = 1, #found[2], 2 do
        local ends, attempts = hold_of(found[2][i + 1])
        if ends <= now and (attempts == '0' or ends + ARGV[8] <= now) then
            redis.call('HDEL', HOLDS, found[2][i])
            redis.call('ZREM', ASIDE, found[2][i])
        end
    end
    if found[1] == '0' then
        redis.call('DEL', SWEPT)
    else
        redis.call('SET', SWEPT, found[1])
    end
end

-- Writes what was taken of these tenants, and tells it.
local function finish(tenants, overall_from)
    local fence = math.max(now, tonumber(redis.call('GET', FENCE) or 0))
    local members, names, attempts, holds = {}, {}, {}, {}
    for i, entry in ipairs(taken) do
        local lines = { text(lease_until), text(fence + i), entry.attempts, worker, entry.tenant.name }
        members[i], names[i], attempts[i] = entry.member, entry.tenant.name, entry.attempts
        holds[#holds + 1] = entry.member
        holds[#holds + 1] = table.concat(lines, '\n')
    end
    sweep()
    local scheduled, records = {}, {}
    if #taken > 0 then
        redis.call('SET', FENCE, text(fence + #taken))
        redis.call('HSET', HOLDS, unpack(holds))
        spend('', tonumber(ARGV[6]), overall_from, #taken)
        redis.call('ZREMRANGEBYSCORE', TURNS, '-inf', text(now - TURN_KEPT))
        scheduled = redis.call('HMGET', SCHEDULES, unpack(members))
        records = redis.call('HMGET', ACCOUNTS, unpack(members))
    end
    for _, tenant in ipairs(tenants) do
        flush(tenant)
        for _, list in ipairs(tenant.lists) do
            if list.is_touched then
                note_first(list.tenants, list.key, tenant.name)
            end
        end
        if tenant.count > 0 then
            redis.call('ZADD', TURNS, text(now), tenant.name)
            spend(':' .. tenant.name, tenant.interval, tenant.from, tenant.count)
        end
    end
    return { text(now), text(lease_until), text(fence), members, names, attempts, scheduled, records }
end
