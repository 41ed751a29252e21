-- Says which generations there are and which is live, if that is still as it was read.
-- KEYS: meta. ARGV: the generations as they were read ('' for none), the new ones, the live one.
if (redis.call('HGET', KEYS[1], 'generations') or '') ~= ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[1], 'generations', ARGV[2], 'generation', ARGV[3])
return 1
