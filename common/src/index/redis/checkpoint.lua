-- Stores the next offset of a partition, unless a later one is stored. Offsets are decimal strings, and stay strings.
-- KEYS: checkpoints, dropped. ARGV: partition, next offset, the field of the time, the time ('' for none), the field of the
-- last message, its digest ('' for none).
if redis.call('EXISTS', KEYS[2]) == 1 then
    return redis.error_reply('DROPPED generation')
end
local stored, next = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]
if not stored or #stored < #next or (#stored == #next and stored < next) then
    redis.call('HSET', KEYS[1], ARGV[1], next)
    if ARGV[4] ~= '' then
        redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
    end
    if ARGV[6] ~= '' then
        redis.call('HSET', KEYS[1], ARGV[5], ARGV[6])
    else
        redis.call('HDEL', KEYS[1], ARGV[5])
    end
end
return 1
