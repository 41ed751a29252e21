-- Gives back all that a member holds, and forgets it.
-- KEYS: members, leases. ARGV: member.
redis.call('ZREM', KEYS[1], ARGV[1])
local leases = redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
    if string.match(leases[i + 1], '^%d+ (.*)$') == ARGV[1] then
        redis.call('HDEL', KEYS[2], leases[i])
    end
end
