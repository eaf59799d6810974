-- Appends a message to a log, at most once, and publishes it.
--
-- A log is a stream. The id of an entry is SEQUENCE-CHECK. Its fields are the epoch of the log (e), the number of bytes
-- of all messages up to and including this one (t), the node that has appended it and the node's own number for it
-- (n), and the message (m). The first entry is the position before the retained messages.
--
-- KEYS  1 the stream of the log
--       2 the number of the newest message that this node has appended
--       3 the idempotency key, if the message has one
-- ARGV  1 the number of this message; the numbers of a node count up
--       2 the name of the node
--       3 the check of the message
--       4 the message: JSON without its id
--       5 the channel of the log
--       6 the largest number of retained messages
--       7 the largest number of retained bytes
--       8 the lifetime of the log and of the node's number, in milliseconds
--       9 the fingerprint of the message, 10 its time, 11 the lifetime of its key in milliseconds, and 12 the epoch of
--         the log that the key belongs to: if the log has begun again, its keys are others
--
-- Returns one of
--       {'appended', EPOCH, ID}
--       {'repeated', EPOCH, ID, TIME}   the message was appended before, with the same key
--       {'conflict'}                    another message has the key
--       {'known'}                       a command with this number was executed, and its message is not in the log
--       {'missing'}                     there is no such log, or none with this epoch
local stream, sender, key = unpack(KEYS)
local number, node, check, message, channel, most_messages, most_bytes, lifetime = unpack(ARGV)

local by = node .. ':' .. number
if tonumber(number) <= tonumber(redis.call('GET', sender) or 0) then
  -- The reply was lost. The newest entries come first: it was appended a few seconds ago.
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-')) do
    if entry[2][6] == by then
      return {'appended', entry[2][2], entry[1]}
    end
  end
  return {'known'}
end
local before = key and redis.call('GET', key)
if before then
  local fingerprint, epoch, id, time = string.match(before, '^(%S+) (%S+) (%S+) (%S+)$')
  if fingerprint ~= ARGV[9] then
    return {'conflict'}
  end
  return {'repeated', epoch, id, time}
end
local tip = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local sequence = tip and tonumber(string.match(tip[1], '^%d+'))
if not tip or sequence == 2 ^ 40 - 1 then
  redis.call('DEL', stream) -- a full log: its readers continue in a new one
  return {'missing'}
end
if key and tip[2][2] ~= ARGV[12] then
  return {'missing'}
end
-- The first command that writes is one that is refused when the memory is full. Nothing has been done by then.
redis.call('SET', sender, number, 'PX', lifetime)
local epoch, total = tip[2][2], tonumber(tip[2][4]) + #message
local id = string.format('%.0f-%s', sequence + 1, check)
redis.call('XADD', stream, 'MAXLEN', '~', most_messages + 1, id,
  'e', epoch, 't', string.format('%.0f', total), 'n', by, 'm', message)
while total > tonumber(most_bytes) do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 3)
  if #oldest < 3 or total - tonumber(oldest[1][2][4]) <= tonumber(most_bytes) then
    break
  end
  redis.call('XTRIM', stream, 'MINID', oldest[2][1])
end
redis.call('PEXPIRE', stream, lifetime)
if key then
  redis.call('SET', key, table.concat({ARGV[9], epoch, id, ARGV[10]}, ' '), 'PX', ARGV[11])
end
redis.call('PUBLISH', channel, table.concat({epoch, id, by, message}, ' '))
return {'appended', epoch, id}
