-- The tenants that have something due now and are not paused, the one served longest ago first.
-- ARGV: 9: '1' for one tenant only; 10: which; 11: a number from 0 to 1, drawn by chance.
local MOST_TENANTS = 256

-- Some of the tenants of a directory that have something due: where they are too many, any, so that none is left out.
local function add_due(tenants, known, directory)
    local count = redis.call('ZCOUNT', directory, '-inf', text(now))
    local first = 0
    if count > MOST_TENANTS then
        first = math.floor(ARGV[11] * count)
    end
    local found = redis.call('ZRANGE', directory, first, math.min(first + MOST_TENANTS, count) - 1)
    if count > 0 and first + MOST_TENANTS > count and first > 0 then
        local rest = redis.call('ZRANGE', directory, 0, first + MOST_TENANTS - count - 1)
        for _, name in ipairs(rest) do
            found[#found + 1] = name
        end
    end
    for place, name in ipairs(count > 0 and found or {}) do
        if not known[name] and not is_paused(name) then
            known[name] = true
            local tenant = tenant_of(name)
            tenant.turn, tenant.place = tonumber(redis.call('ZSCORE', TURNS, name) or 0), place
            tenants[#tenants + 1] = tenant
        end
    end
end

local tenants = {}
if ARGV[9] == '1' then
    if not is_paused(ARGV[10]) then
        tenants[1] = tenant_of(ARGV[10])
    end
else
    local known = {}
    add_due(tenants, known, DUE)
    add_due(tenants, known, SCHEDULED)
    table.sort(tenants, function(one, other)
        if one.turn ~= other.turn then
            return one.turn < other.turn
        end
        if one.place ~= other.place then
            return one.place < other.place
        end
        return one.name < other.name
    end)
end
