-- Applies events to the index of a tuned peer: every field is the newest by (time, id), and a removal forgets what is
-- not newer than it. ARGV: the prefix of all keys, then of each event its kind, cache key, time in microseconds, id,
-- tenant, username and data.
local prefix = ARGV[1]

local function is_newer(time, id, than_time, than_id)
    local difference = tonumber(time) - tonumber(than_time or '0')
    return difference > 0 or (difference == 0 and id > (than_id or ''))
end

local function lists(tenant, username)
    return { prefix .. 'active', prefix .. 'tenant:' .. tenant, prefix .. 'user:' .. username }
end

local function remove_from(all, key)
    for _, list in ipairs(all) do redis.call('ZREM', list, key) end
end

local function remove(account, key, time, stored)
    local removed_at, last_activity, last_hydration, details_at, _, failure_at, _, tenant, username = unpack(stored)
    local function is_gone(at) return at and tonumber(at) <= tonumber(time) end
    if is_gone(removed_at) or not removed_at then redis.call('HSET', account, 'removed_at', time) end
    if is_gone(last_activity) then
        redis.call('HDEL', account, 'last_activity')
        remove_from(lists(tenant, username), key)
    end
    if is_gone(last_hydration) then redis.call('HDEL', account, 'last_hydration') end
    if is_gone(failure_at) then redis.call('HDEL', account, 'failure', 'failure_at', 'failure_id') end
    if is_gone(details_at) then
        redis.call('HDEL', account, 'details', 'details_at', 'details_id', 'tenant', 'username')
    end
end

local function keep_details(account, key, time, id, tenant, username, data, stored)
    redis.call('HSET', account, 'details', data, 'details_at', time, 'details_id', id, 'tenant', tenant, 'username', username)
    if stored[8] and (stored[8] ~= tenant or stored[9] ~= username) then
        remove_from(lists(stored[8], stored[9]), key)
    end
end

local function apply(kind, key, time, id, tenant, username, data)
    local account = prefix .. 'account:' .. key
    local stored = redis.call('HMGET', account, 'removed_at', 'last_activity', 'last_hydration',
        'details_at', 'details_id', 'failure_at', 'failure_id', 'tenant', 'username')
    local removed_at, last_activity, last_hydration, details_at, details_id, failure_at, failure_id = unpack(stored)
    if kind == 'removed' then return remove(account, key, time, stored) end
    if removed_at and tonumber(time) <= tonumber(removed_at) then return end

    if kind == 'acquisition-failed' then
        if is_newer(time, id, failure_at, failure_id) then
            redis.call('HSET', account, 'failure', data, 'failure_at', time, 'failure_id', id)
        end
        return
    end
    if is_newer(time, id, details_at, details_id) then
        keep_details(account, key, time, id, tenant, username, data, stored)
    else
        tenant, username = stored[8], stored[9]
    end
    if kind == 'hydrated' then
        if is_newer(time, '', last_hydration) then redis.call('HSET', account, 'last_hydration', time) end
    elseif is_newer(time, '', last_activity) then
        last_activity = time
        redis.call('HSET', account, 'last_activity', time)
    end
    if last_activity then
        for _, list in ipairs(lists(tenant, username)) do redis.call('ZADD', list, last_activity, key) end
    end
end

for at = 2, #ARGV, 7 do apply(unpack(ARGV, at, at + 6)) end
