// Suite A: the two protocol versions on one topic, binary payloads, and broadcasting over HTTP to both.

import assert from 'node:assert/strict'
import { connect, subscribed, unique, until } from './client.mjs'

const VERSIONS = ['1.0.0', '2.0.0']

async function listening(project, topic, vsn, config = {}) {
  const got = []
  const channel = connect({ ...project, vsn }).channel(topic, { config })
  channel.on('broadcast', { event: '*' }, (message) => got.push(message))
  await subscribed(channel)
  return { channel, got, vsn }
}

export async function both_versions_hear_each_other_and_themselves(project) {
  const topic = unique()
  const both = []
  for (const vsn of VERSIONS) both.push(await listening(project, topic, vsn, { broadcast: { self: true, ack: true } }))
  for (const { channel, vsn } of both) {
    const payload = { from: vsn, nested: { list: [1, 'zwei', null, 3.5], text: 'größer ∑ 😀' } }
    assert.equal(await channel.send({ type: 'broadcast', event: 'hello', payload }), 'ok')
  }
  for (const { got } of both) {
    await until(() => got.length === 2, 'both messages')
    assert.deepEqual(got.map(({ payload }) => payload.from).sort(), VERSIONS)
    for (const message of got) {
      assert.deepEqual([message.type, message.event], ['broadcast', 'hello'])
      assert.deepEqual(message.payload.nested, { list: [1, 'zwei', null, 3.5], text: 'größer ∑ 😀' })
    }
  }
}

export async function binary_payloads_arrive_as_they_were_sent(project) {
  const topic = unique()
  const receiver = await listening(project, topic, '2.0.0')
  const old = await listening(project, topic, '1.0.0')
  const sender = await listening(project, topic, '2.0.0', { broadcast: { self: true, ack: true } })
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) % 256)
  assert.equal(await sender.channel.send({ type: 'broadcast', event: 'bytes', payload: bytes.buffer }), 'ok')
  for (const { got } of [receiver, sender]) {
    await until(() => got.length, 'the bytes')
    assert.equal(got[0].event, 'bytes')
    assert.deepEqual(new Uint8Array(got[0].payload), bytes)
  }
  await sender.channel.send({ type: 'broadcast', event: 'after', payload: { n: 1 } })
  await until(() => old.got.length, 'the message behind it')
  assert.deepEqual(old.got.map(({ event }) => event), ['after'], 'version 1 has no form for bytes')
}

export async function http_reaches_both_versions(project) {
  const topic = unique()
  const both = []
  for (const vsn of VERSIONS) both.push(await listening(project, topic, vsn))
  const channel = connect(project).channel(topic)
  assert.deepEqual(await channel.httpSend('posted', { n: 1 }), { success: true })
  for (const { got } of both) {
    await until(() => got.length, 'the posted message')
    assert.equal(got[0].event, 'posted')
    assert.equal(got[0].payload.n, 1)
  }
  assert.deepEqual(await channel.httpSend('bytes', Uint8Array.of(0, 1, 255)), { success: true })
  await until(() => both[1].got.length === 2, 'the posted bytes')
  assert.deepEqual(new Uint8Array(both[1].got[1].payload), Uint8Array.of(0, 1, 255))
}
