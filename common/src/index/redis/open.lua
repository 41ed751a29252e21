-- Says which index is kept here, making a first one where there is none.
-- KEYS: meta. ARGV: format, generation, shards.
-- A server that lost everything may have been told of a policy before it is asked for the index.
if redis.call('HEXISTS', KEYS[1], 'format') == 0 and redis.call('HEXISTS', KEYS[1], 'generation') == 0 then
    local now = redis.call('TIME')[1]
    redis.call('HSET', KEYS[1], 'format', ARGV[1], 'generation', ARGV[2], 'shards', ARGV[3], 'created_at', now)
end
return redis.call('HMGET', KEYS[1], 'format', 'generation', 'shards')
