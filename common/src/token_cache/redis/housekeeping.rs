//! The Lua that looks at the whole outbox: what waits, what may be forgotten, what is sent again.

/// KEYS: outbox. ARGV: group, age in microseconds. Sets the group back, never forward: entries behind it that were
/// never taken must not be skipped.
pub(super) const REWIND: &str = "
if redis.call('EXISTS', KEYS[1]) == 0 then return end
local now = redis.call('TIME')
local since = now[1] * 1000000 + now[2] - tonumber(ARGV[2])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    if info.name == ARGV[1] and tonumber(string.match(info['last-delivered-id'], '^%d+')) >= since then
        -- An entry at `since` itself is one of the last `age`.
        local before = math.max(since - 1, 0)
        redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], string.format('%.0f', before) .. '-0')
    end
end
";

/// KEYS: outbox. ARGV: group, age in microseconds. Returns how many entries were forgotten: those older than the age,
/// than the oldest pending entry, and than the next entry to be taken.
pub(super) const TRIM: &str = "
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now = redis.call('TIME')
local keep_from = string.format('%.0f', math.max(now[1] * 1000000 + now[2] - tonumber(ARGV[2]), 0)) .. '-0'

local function numbers(id)
    local micros, sequence = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(micros), tonumber(sequence)
end
local function keep(id)
    local micros, sequence = numbers(id)
    local kept_micros, kept_sequence = numbers(keep_from)
    if micros < kept_micros or (micros == kept_micros and sequence < kept_sequence) then keep_from = id end
end

local delivered
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    if info.name == ARGV[1] then delivered = info['last-delivered-id'] end
end
if not delivered then return 0 end

local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
if pending[1] > 0 then keep(pending[2]) end
local next_entry = redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', 1)
if next_entry[1] then keep(next_entry[1][1]) end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', keep_from)
";

/// KEYS: outbox, refused. ARGV: group. Returns unconfirmed, kept, the age of the oldest unconfirmed entry in
/// microseconds as text or nil, refused.
///
/// Redis cannot always tell how many entries the group has not been given yet: after a rewind, until it has caught
/// up. All entries are counted as unconfirmed then.
pub(super) const BACKLOG: &str = "
local refused = redis.call('XLEN', KEYS[2])
local kept = redis.call('XLEN', KEYS[1])
local first = nil
local function oldest(id)
    local micros = tonumber(string.match(id, '^%d+'))
    first = math.min(first or micros, micros)
end

local group
if redis.call('EXISTS', KEYS[1]) == 1 then
    for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        local info = {}
        for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
        if info.name == ARGV[1] then group = info end
    end
end

local unconfirmed = kept
local delivered = '0-0'
if group then
    delivered = group['last-delivered-id']
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
    if pending[1] > 0 then oldest(pending[2]) end
    local next_entry = redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', 1)
    if not next_entry[1] then
        unconfirmed = pending[1]
    elseif group.lag then
        unconfirmed = math.min(pending[1] + group.lag, kept)
    end
end
local next_entry = redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', 1)
if next_entry[1] then oldest(next_entry[1][1]) end

local age = false
if first then
    local now = redis.call('TIME')
    age = string.format('%.0f', math.max(now[1] * 1000000 + now[2] - first, 0))
end
return {unconfirmed, kept, age, refused}
";

/// KEYS: outbox, refused. ARGV: group, id, reason. Moves one entry, with its id and the reason before its own fields.
pub(super) const REFUSE: &str = "
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if found[1] then
    redis.call('XADD', KEYS[2], '*', 'entry', ARGV[2], 'reason', ARGV[3], unpack(found[1][2]))
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
";
