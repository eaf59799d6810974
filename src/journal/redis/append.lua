-- Appends a group of messages to a log, each at most once, and publishes them in one notice.
--
-- A log is a stream. The id of an entry is SEQUENCE-CHECK. Its fields are the epoch of the log (e), the number of bytes
-- of all messages up to and including this one (t), the node that has appended it and the ticket of the node for it
-- (n), and the message (m). The first entry is the position before the retained messages.
--
-- KEYS  1 the stream of the log
--       2 the number of the newest group that this node has appended
--       3 and further: the idempotency keys of those messages that have one, in the order of the messages
-- ARGV  1 the name of the node
--       2 the number of this group; the numbers of a node count up
--       3 the channel of the log
--       4 the largest number of retained messages
--       5 the largest number of retained bytes
--       6 the lifetime of the log and of the node's number, in milliseconds
--       7 the lifetime of an idempotency key, in milliseconds
--       8 and further, for each message: its ticket, its check, the message as JSON without its id, its time, and, or
--         else two empty texts, the fingerprint that belongs to its key and the epoch of the log that the key belongs
--         to: if the log has begun again, its keys are others
--
-- Returns for each message one of
--       appended EPOCH ID
--       repeated EPOCH ID TIME   the message was appended before, with the same key
--       conflict                 another message has the key
--       known                    a group with this number was executed, and the message is not in the log
--       missing                  there is no such log, or none with this epoch
local stream, sender = KEYS[1], KEYS[2]
local node, number, channel, most_messages, most_bytes, lifetime, key_lifetime = unpack(ARGV, 1, 7)

-- Returns a table with an outcome for each message.
local function each(outcome)
  local outcomes = {}
  for at = 8, #ARGV, 6 do
    outcomes[#outcomes + 1] = outcome(node .. ':' .. ARGV[at], unpack(ARGV, at + 1, at + 5))
  end
  return outcomes
end

if tonumber(number) <= tonumber(redis.call('GET', sender) or 0) then
  -- The reply was lost.
  local appended = {}
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    appended[entry[2][6]] = 'appended ' .. entry[2][2] .. ' ' .. entry[1]
  end
  return each(function(by) return appended[by] or 'known' end)
end

local tip = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local sequence = tip and tonumber(string.match(tip[1], '^%d+'))
if not tip or sequence + #ARGV > 2 ^ 40 then
  redis.call('DEL', stream) -- a full log: its readers continue in a new one
  return each(function() return 'missing' end)
end
local epoch, total = tip[2][2], tonumber(tip[2][4])

-- All reads come before the first write: one that fails, because a key has another type, leaves nothing half done.
local known = {}
for at = 3, #KEYS do
  known[KEYS[at]] = redis.call('GET', KEYS[at])
end

-- The first command that writes is one that is refused when the memory is full. Nothing has been done by then.
redis.call('SET', sender, number, 'PX', lifetime)
local next_key, notice = 3, {}
local outcomes = each(function(by, check, message, time, fingerprint, key_epoch)
  local key
  if fingerprint ~= '' then
    key, next_key = KEYS[next_key], next_key + 1
    local before = known[key]
    if before then
      local same, place = string.match(before, '^(%S+) (.*)$')
      return same == fingerprint and 'repeated ' .. place or 'conflict'
    end
    if epoch ~= key_epoch then
      return 'missing'
    end
  end
  sequence, total = sequence + 1, total + #message
  local id = sequence .. '-' .. check -- a sequence has up to 13 digits, and Lua writes 14
  redis.call('XADD', stream, 'MAXLEN', '~', most_messages + 1, id,
    'e', epoch, 't', total, 'n', by, 'm', message)
  local place = epoch .. ' ' .. id
  if key then
    known[key] = fingerprint .. ' ' .. place .. ' ' .. time
    redis.call('SET', key, known[key], 'PX', key_lifetime)
  end
  notice[#notice + 1] = place .. ' ' .. by .. ' ' .. message
  return 'appended ' .. place
end)
while total > tonumber(most_bytes) do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 3)
  if #oldest < 3 or total - tonumber(oldest[1][2][4]) <= tonumber(most_bytes) then
    break
  end
  redis.call('XTRIM', stream, 'MINID', oldest[2][1])
end
redis.call('PEXPIRE', stream, lifetime)
if #notice > 0 then
  redis.call('PUBLISH', channel, table.concat(notice, '\n')) -- JSON has no line feed
end
return outcomes
