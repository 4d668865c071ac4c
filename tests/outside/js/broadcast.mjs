// Broadcasting as suites B and E check it: between clients, over HTTP, from the database, and played again.

import assert from 'node:assert/strict'
import { connect, ok, service, signedUp, subscribed, unique, until } from './client.mjs'

export async function others_hear_it_and_oneself_does_not(project) {
  const topic = unique()
  const got = { a: [], b: [], other: [] }
  const channels = {}
  for (const name of Object.keys(got)) {
    channels[name] = connect(project).channel(name === 'other' ? unique() : topic)
    channels[name].on('broadcast', { event: 'note' }, ({ payload }) => got[name].push(payload.n))
    await subscribed(channels[name])
  }
  for (let n = 0; n < 5; n += 1) await channels.a.send({ type: 'broadcast', event: 'note', payload: { n } })
  await channels.a.send({ type: 'broadcast', event: 'another', payload: { n: 99 } })
  await channels.b.send({ type: 'broadcast', event: 'note', payload: { n: 'back' } })
  await until(() => got.a.length && got.b.length === 5, 'all notes')
  assert.deepEqual(got, { a: ['back'], b: [0, 1, 2, 3, 4], other: [] })
}

export async function a_client_that_is_not_joined_posts(project) {
  const topic = unique()
  const got = []
  const channel = connect(project).channel(topic)
  channel.on('broadcast', { event: '*' }, (message) => got.push(message))
  await subscribed(channel)
  const stranger = connect(project).channel(topic)
  assert.equal(await stranger.send({ type: 'broadcast', event: 'posted', payload: { n: 1 } }), 'ok')
  await until(() => got.length, 'the message')
  assert.deepEqual([got[0].event, got[0].payload.n], ['posted', 1])
}

export async function a_burst_arrives_whole_and_in_order(project) {
  const topic = unique()
  const got = Array.from({ length: 5 }, () => [])
  for (const into of got) {
    const channel = connect(project).channel(topic)
    channel.on('broadcast', { event: 'n' }, ({ payload }) => into.push(payload.n))
    await subscribed(channel)
  }
  const sender = connect(project).channel(topic, { config: { broadcast: { ack: true } } })
  await subscribed(sender)
  const numbers = [...Array(200).keys()]
  const answers = await Promise.all(numbers.map((n) => sender.send({ type: 'broadcast', event: 'n', payload: { n } })))
  assert.ok(answers.every((answer) => answer === 'ok'))
  await until(() => got.every((into) => into.length === numbers.length), 'the last message at everybody')
  for (const into of got) assert.deepEqual(into, numbers)
}

export async function the_database_broadcasts(project) {
  const topic = unique()
  const got = []
  const channel = connect(project).channel(topic)
  channel.on('broadcast', { event: '*' }, (message) => got.push(message))
  await subscribed(channel)
  const admin = service(project)
  ok(await admin.rpc('say', { topic, event: 'from-sql', payload: { hello: 'world' } }))
  ok(await admin.rpc('say', { topic, event: 'private', payload: {}, private: true }))
  ok(await admin.rpc('say', { topic, event: 'last', payload: { id: 'mine' } }))
  await until(() => got.length === 2, 'both public messages')
  assert.deepEqual([got[0].event, got[0].payload.hello], ['from-sql', 'world'])
  assert.equal(got[0].payload.id, got[0].meta.id)
  assert.deepEqual([got[1].event, got[1].payload.id], ['last', 'mine'])
}

export async function the_database_broadcasts_bytes(project) {
  const topic = unique()
  const got = []
  const channel = connect({ ...project, vsn: '2.0.0' }).channel(topic)
  channel.on('broadcast', { event: '*' }, (message) => got.push(message))
  await subscribed(channel)
  ok(await service(project).rpc('say_bytes', { topic, event: 'bytes', hex: '00ff10' }))
  await until(() => got.length, 'the bytes')
  assert.deepEqual(new Uint8Array(got[0].payload), Uint8Array.of(0, 255, 16))
}

export async function bytes_are_played_again(project) {
  const { client } = await signedUp({ ...project, vsn: '2.0.0' })
  await client.realtime.setAuth()
  const topic = `topic:${unique()}`
  const since = Date.now() - 60_000
  ok(await service(project).rpc('say_bytes', { topic, event: 'bytes', hex: '00ff10', private: true }))
  const got = []
  const channel = client.channel(topic, { config: { private: true, broadcast: { replay: { since, limit: 1 } } } })
  channel.on('broadcast', { event: 'bytes' }, (message) => got.push(message))
  await subscribed(channel)
  await until(() => got.length, 'the replayed bytes')
  assert.deepEqual(new Uint8Array(got[0].payload), Uint8Array.of(0, 255, 16))
  assert.equal(got[0].meta.replayed, true)
}

export async function triggers_tell_of_changes(project) {
  const { client } = await signedUp(project)
  await client.realtime.setAuth()
  const value = unique('row')
  const got = []
  const channel = client.channel(`topic:${value}`, { config: { private: true } })
  for (const event of ['INSERT', 'UPDATE', 'DELETE']) {
    channel.on('broadcast', { event }, ({ payload }) => got.push(payload))
  }
  await subscribed(channel)
  const admin = service(project)
  const { id } = ok(await admin.from('broadcast_changes').insert({ value }).select().single())
  ok(await admin.from('broadcast_changes').update({ value }).eq('id', id))
  ok(await admin.from('broadcast_changes').delete().eq('id', id))
  await until(() => got.length === 3, 'all three changes')
  const row = { id, value }
  assert.deepEqual(
    got.map(({ operation, record, old_record: old }) => [operation, record, old]),
    [['INSERT', row, null], ['UPDATE', row, row], ['DELETE', null, row]],
  )
  assert.deepEqual([got[0].schema, got[0].table], ['public', 'broadcast_changes'])
}

export async function messages_are_played_again(project) {
  const { client } = await signedUp(project)
  await client.realtime.setAuth()
  const admin = service(project)
  const topic = `topic:${unique()}`
  const since = Date.now() - 60_000
  for (let n = 0; n < 5; n += 1) ok(await admin.rpc('say', { topic, event: 'old', payload: { n }, private: true }))
  const got = []
  const channel = client.channel(topic, { config: { private: true, broadcast: { replay: { since, limit: 3 } } } })
  channel.on('broadcast', { event: '*' }, (message) => got.push(message))
  await subscribed(channel)
  await until(() => got.length === 3, 'the replayed messages')
  assert.deepEqual(got.map(({ payload }) => payload.n), [2, 3, 4])
  assert.ok(got.every(({ meta }) => meta.replayed === true))
  ok(await admin.rpc('say', { topic, event: 'new', payload: { n: 5 }, private: true }))
  await until(() => got.length === 4, 'the live message')
  assert.equal(got[3].meta.replayed, undefined)
}
