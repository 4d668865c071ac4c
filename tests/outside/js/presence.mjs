// Presence as suites B, C and E check it.

import assert from 'node:assert/strict'
import { connect, signedUp, subscribed, unique, until } from './client.mjs'

async function member(client, topic, key, config = {}) {
  const told = { joins: [], leaves: [], syncs: 0 }
  const channel = client.channel(topic, { config: { presence: { key }, ...config } })
  channel.on('presence', { event: 'sync' }, () => (told.syncs += 1))
  channel.on('presence', { event: 'join' }, (payload) => told.joins.push(payload))
  channel.on('presence', { event: 'leave' }, (payload) => told.leaves.push(payload))
  await subscribed(channel)
  return { channel, told, state: () => channel.presenceState() }
}

export async function members_see_each_other_come_and_go(project) {
  const topic = unique()
  const ada = await member(connect(project), topic, 'ada')
  const bob = await member(connect(project), topic, 'bob')
  assert.equal(await ada.channel.track({ status: 'online' }), 'ok')
  await until(() => bob.state().ada, "ada's arrival")
  assert.equal(bob.state().ada[0].status, 'online')
  assert.equal(await bob.channel.track({ status: 'here' }), 'ok')
  await until(() => ada.state().bob, "bob's arrival")
  const late = await member(connect(project), topic, 'late')
  await until(() => late.told.syncs, 'the state for who comes late')
  assert.deepEqual(Object.keys(late.state()).sort(), ['ada', 'bob'])
  assert.equal(await ada.channel.untrack(), 'ok')
  await until(() => !bob.state().ada, "ada's departure")
  assert.ok(bob.told.leaves.some(({ key }) => key === 'ada'))
  await bob.channel.unsubscribe()
  await until(() => !late.state().bob, "bob's departure")
  assert.deepEqual(late.state(), {})
}

// The client's own state keeps the old entry beside the new one (its adapter takes the ref from the old entry before the
// diff's second half looks for it; the frames are the real server's), so what counts is what it is told.
export async function a_change_is_told_and_kept(project) {
  const topic = unique()
  const ada = await member(connect(project), topic, 'ada')
  const bob = await member(connect(project), topic, 'bob')
  await ada.channel.track({ status: 'online' })
  await ada.channel.track({ status: 'away' })
  await until(() => bob.told.joins.length === 2, 'both joins')
  assert.deepEqual(bob.told.joins.map(({ newPresences }) => newPresences[0].status), ['online', 'away'])
  assert.deepEqual(bob.told.leaves.map(({ leftPresences }) => leftPresences[0].status), ['online'])
  const late = await member(connect(project), topic, 'late')
  await until(() => late.told.syncs, 'the state')
  assert.deepEqual(late.state().ada.map(({ status }) => status), ['away'])
}

export async function one_key_in_two_places(project) {
  const topic = unique()
  const first = await member(connect(project), topic, 'same')
  const second = await member(connect(project), topic, 'same')
  await first.channel.track({ place: 1 })
  await second.channel.track({ place: 2 })
  await until(() => first.state().same?.length === 2, 'both places')
  assert.deepEqual(first.state().same.map(({ place }) => place).sort(), [1, 2])
  await second.channel.unsubscribe()
  await until(() => first.state().same?.length === 1, 'one place')
  assert.equal(first.state().same[0].place, 1)
}

export async function ten_members_agree(project) {
  const topic = unique()
  const members = []
  for (let n = 0; n < 10; n += 1) members.push(await member(connect(project), topic, `m${n}`))
  await Promise.all(members.map(({ channel }, n) => channel.track({ n })))
  await until(() => members.every(({ state }) => Object.keys(state()).length === 10), 'everybody seeing everybody')
  await members[0].channel.unsubscribe()
  await until(() => members.slice(1).every(({ state }) => !state().m0), 'everybody seeing the departure')
}

export async function private_channels_have_presence_too(project) {
  const ada = await signedUp(project)
  const bob = await signedUp(project)
  const topic = `topic:${unique()}`
  const members = []
  for (const [key, { client }] of Object.entries({ ada, bob })) {
    await client.realtime.setAuth()
    members.push(await member(client, topic, key, { private: true }))
  }
  assert.equal(await members[0].channel.track({ n: 1 }), 'ok')
  await until(() => members[1].state().ada, "ada's arrival")
}
