//! The Lua that every writing script shares: append an event at a time of its own.

/// `append_event(stream, draft)` returns the id of the new entry: Redis' clock in microseconds where that is later
/// than the last id, else one more than the last id. It raises an error and writes nothing where it cannot.
pub(super) const APPEND_EVENT: &str = "
local function last_id(stream)
    local info = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then return info[i + 1] end
    end
end

local function append_event(stream, draft)
    local now = redis.call('TIME')
    local id = now[1] .. string.format('%06d', now[2]) .. '-0'
    local added = redis.pcall('XADD', stream, id, 'e', draft)
    if type(added) == 'table' and added.err then
        local last = tonumber(string.match(last_id(stream), '^%d+'))
        added = redis.call('XADD', stream, string.format('%.0f', last + 1) .. '-0', 'e', draft)
    end
    return added
end
";
