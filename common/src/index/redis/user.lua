-- Part of a list of usernames, in the order of its members, with the records.
-- KEYS: accounts, the list. ARGV: the member after which it goes on, as a range begins with it; how many.
-- Returns {member, …} and {record, …}.
local members = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
if #members == 0 then
    return {{}, {}}
end
return {members, redis.call('HMGET', KEYS[1], unpack(members))}
