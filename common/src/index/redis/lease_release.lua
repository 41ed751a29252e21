-- Gives back those of the partitions that a member holds.
-- KEYS: leases. ARGV: member, the partitions.
for i = 2, #ARGV do
    if string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+ (.*)$') == ARGV[1] then
        redis.call('HDEL', KEYS[1], ARGV[i])
    end
end
