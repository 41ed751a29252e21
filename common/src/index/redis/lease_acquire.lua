-- Takes the first of the partitions that nobody holds.
-- KEYS: leases. ARGV: member, milliseconds, how many at most, the partitions.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local till = string.format('%.0f', now + ARGV[2])
local taken = {}
for i = 4, #ARGV do
    if #taken == tonumber(ARGV[3]) then
        break
    end
    local ends = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^(%d+) ')
    if not ends or tonumber(ends) <= now then
        redis.call('HSET', KEYS[1], ARGV[i], till .. ' ' .. ARGV[1])
        taken[#taken + 1] = ARGV[i]
    end
end
if #taken > 0 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return taken
