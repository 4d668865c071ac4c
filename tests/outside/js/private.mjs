// Private channels: policies on realtime.messages decide who hears and who speaks (suites B and E).

import assert from 'node:assert/strict'
import { connect, signedUp, subscribed, unique, until } from './client.mjs'

const secret = { config: { private: true, broadcast: { ack: false } } }

async function member(project) {
  const { client } = await signedUp(project)
  await client.realtime.setAuth()
  return client
}

function listen(channel) {
  const got = []
  channel.on('broadcast', { event: '*' }, ({ payload }) => got.push(payload.n))
  return got
}

export async function members_hear_each_other_and_strangers_do_not(project) {
  const topic = `topic:${unique()}`
  const ada = (await member(project)).channel(topic, secret)
  const bob = (await member(project)).channel(topic, secret)
  const open = connect(project).channel(topic)
  const [heard, overheard] = [listen(bob), listen(open)]
  for (const channel of [ada, bob, open]) await subscribed(channel)
  await ada.send({ type: 'broadcast', event: 'x', payload: { n: 1 } })
  await until(() => heard.length, 'the private message')
  await open.send({ type: 'broadcast', event: 'x', payload: { n: 2 } })
  await ada.send({ type: 'broadcast', event: 'x', payload: { n: 3 } })
  await until(() => heard.length === 2, 'the second private message')
  assert.deepEqual([heard, overheard], [[1, 3], []], 'public and private rooms of one name are two')
}

export async function who_may_not_read_is_refused(project) {
  const topic = `topic:${unique()}`
  await assert.rejects(subscribed(connect(project).channel(topic, secret)), {
    message: new RegExp(`^CHANNEL_ERROR: "?Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`),
  })
  const elsewhere = unique('elsewhere')
  await assert.rejects(subscribed((await member(project)).channel(elsewhere, secret)), /Unauthorized/)
}

export async function who_may_only_read_is_not_heard(project) {
  const topic = `readonly:${unique()}`
  const reader = (await member(project)).channel(topic, secret)
  const other = (await member(project)).channel(topic, secret)
  const heard = listen(other)
  await subscribed(reader)
  await subscribed(other)
  await reader.send({ type: 'broadcast', event: 'x', payload: { n: 1 } })
  const server = connect(project, { key: project.secret_key }).channel(topic, secret)
  await subscribed(server)
  await server.send({ type: 'broadcast', event: 'x', payload: { n: 2 } })
  await until(() => heard.length, "the server's message")
  assert.deepEqual(heard, [2])
}

export async function http_to_a_private_channel(project) {
  const topic = `my-channel-${unique()}`
  const client = await member(project)
  const channel = (await member(project)).channel(topic, secret)
  const heard = listen(channel)
  await subscribed(channel)
  assert.deepEqual(await client.channel(topic, secret).httpSend('x', { n: 1 }), { success: true })
  await until(() => heard.length, 'the posted message')
  assert.deepEqual(heard, [1])
  await assert.rejects(connect(project).channel(topic, secret).httpSend('x', { n: 2 }))
}
