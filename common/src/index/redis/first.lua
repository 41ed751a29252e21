-- Keeps, among the tenants by their first account, when the first one of a tenant's list is. Stands before other scripts.
local function note_first(tenants, list, tenant)
    local first = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
    if first[2] then
        redis.call('ZADD', tenants, first[2], tenant)
    else
        redis.call('ZREM', tenants, tenant)
    end
end

