-- Stores the next offset of a partition, unless a later one is stored. Offsets are decimal strings, and stay strings.
-- KEYS: checkpoints. ARGV: partition, next offset.
local stored, next = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]
if not stored or #stored < #next or (#stored == #next and stored < next) then
    redis.call('HSET', KEYS[1], ARGV[1], next)
end
return 1
