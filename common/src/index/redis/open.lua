-- Says which index is kept here, making a first one where there is none.
-- KEYS: meta. ARGV: format, generation, shards.
if redis.call('EXISTS', KEYS[1]) == 0 then
    local now = redis.call('TIME')[1]
    redis.call('HSET', KEYS[1], 'format', ARGV[1], 'generation', ARGV[2], 'shards', ARGV[3], 'created_at', now)
end
return redis.call('HMGET', KEYS[1], 'format', 'generation', 'shards')
