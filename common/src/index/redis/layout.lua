-- Decides for a shard which app is its main one, and which tenants have lists of their own; what is decided stays.
-- KEYS: layout, dropped. ARGV: an id unlike any other, how many tenants at most, an app ('' for none), the tenants.
-- Returns all that is decided. Its id changes with it.
if redis.call('EXISTS', KEYS[2]) == 1 then
    return redis.error_reply('DROPPED generation')
end
local decided, tenants = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #decided, 2 do
    if string.sub(decided[i], 1, 7) == 'tenant:' then
        tenants = tenants + 1
    end
end
local added = 0
if ARGV[3] ~= '' then
    added = redis.call('HSETNX', KEYS[1], 'client', ARGV[3])
end
for i = 4, #ARGV do
    if tenants < tonumber(ARGV[2]) and redis.call('HSETNX', KEYS[1], 'tenant:' .. ARGV[i], '') == 1 then
        tenants, added = tenants + 1, 1
    end
end
if added == 1 then
    redis.call('HSET', KEYS[1], 'id', ARGV[1])
    decided = redis.call('HGETALL', KEYS[1])
end
return decided
