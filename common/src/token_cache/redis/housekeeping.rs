//! The Lua that looks at the whole outbox: what waits, what may be forgotten, what is sent again.
//!
//! KEYS\[1\] is the outbox and ARGV\[1\] the group in all of them; ages are in microseconds.

/// `group_of(stream, name)` is what Redis says of the group, nil where there is none; `now_us()` is Redis' clock;
/// `micros_of(id)` the time of an entry; `id_of(micros)` the id of a time.
pub(super) const LOOK: &str = "
local function group_of(stream, name)
    if redis.call('EXISTS', stream) == 0 then return nil end
    for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local info = {}
        for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
        if info.name == name then return info end
    end
end

local function now_us()
    local now = redis.call('TIME')
    return now[1] * 1000000 + now[2]
end

local function micros_of(id) return tonumber(string.match(id, '^%d+')) end
local function id_of(micros) return string.format('%.0f', math.max(micros, 0)) .. '-0' end

local function oldest_pending(stream, group)
    local pending = redis.call('XPENDING', stream, group)
    return pending[1], pending[2]
end

local function first_after(stream, id)
    local entry = redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 1)[1]
    return entry and entry[1]
end
";

/// ARGV: group, age. Sets the group back, never forward: what was never taken must not be skipped.
pub(super) const REWIND: &str = "
local group = group_of(KEYS[1], ARGV[1])
local since = now_us() - tonumber(ARGV[2])
if group and micros_of(group['last-delivered-id']) >= since then
    -- The group goes on with what comes after the id it is set to.
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], id_of(since - 1))
end
";

/// ARGV: group, age. Forgets what is older than the age, than the oldest pending entry and than the next entry to be
/// taken, and says how many that were.
pub(super) const TRIM: &str = "
local group = group_of(KEYS[1], ARGV[1])
if not group then return 0 end
local keep_from = id_of(now_us() - tonumber(ARGV[2]))
local function keep(id)
    -- Ids of one microsecond are kept together, so that comparing the times is enough.
    if id and micros_of(id) < micros_of(keep_from) then keep_from = id_of(micros_of(id)) end
end
local pending, first_pending = oldest_pending(KEYS[1], ARGV[1])
if pending > 0 then keep(first_pending) end
keep(first_after(KEYS[1], group['last-delivered-id']))
return redis.call('XTRIM', KEYS[1], 'MINID', '=', keep_from)
";

/// KEYS: outbox, refused. ARGV: group. Returns unconfirmed, kept, the age of the oldest unconfirmed entry as text or
/// nil, refused.
///
/// Redis 7 cannot tell how many entries the group was not given yet between a rewind and when it has caught up, and
/// Redis 6 never can. All entries are counted as unconfirmed then, where any is.
pub(super) const BACKLOG: &str = "
local kept, refused = redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2])
local group = group_of(KEYS[1], ARGV[1])
local pending, first_pending = 0, nil
if group then pending, first_pending = oldest_pending(KEYS[1], ARGV[1]) end
local next_id = first_after(KEYS[1], group and group['last-delivered-id'] or '0-0')

local unconfirmed = pending
if next_id then unconfirmed = math.min(pending + (group and group.lag or kept), kept) end

local first
for _, id in ipairs({first_pending or next_id, next_id}) do
    first = math.min(first or micros_of(id), micros_of(id))
end
local age = first and string.format('%.0f', math.max(now_us() - first, 0))
return {unconfirmed, kept, age or false, refused}
";
