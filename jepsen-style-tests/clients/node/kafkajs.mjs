// KafkaJS: the versions of before flexible fields, and the most used one in Node.
import { createRequire } from 'node:module'

import kafkajs from 'kafkajs'

import { main } from './matrix.mjs'
import * as scenario from './scenario.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
const require = createRequire(import.meta.url)
const CLIENT = 'kafkajs'
const VERSION = require('kafkajs/package.json').version
// It has gzip; these come with packages of their own.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const LZ4 = require('kafkajs-lz4')
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4' }

const { bootstrap, topic } = scenario.parsed()
const kafka = new Kafka({
  clientId: 'matrix',
  brokers: bootstrap,
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 200, maxRetryTime: 2000, retries: 30 },
})

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function create() {
  await withAdmin(async (admin) => {
    const { PARTITIONS: numPartitions, REPLICATION: replicationFactor } = scenario
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor }], waitForLeaders: true })
    await scenario.waitFor(async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      const { partitions } = topics[0]
      return partitions.length === numPartitions && partitions.every((p) => p.leader >= 0 && p.replicas.length === 3)
    }, '3 partitions of 3 replicas have leaders')
  })
}

async function withProducer(work) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

// Headers with one key twice are an array here.
function toHeaders(pairs) {
  const grouped = {}
  for (const [name, text] of pairs) (grouped[name] ??= []).push(text)
  return Object.fromEntries(Object.entries(grouped).map(([name, all]) => [name, all.length > 1 ? all : all[0]]))
}

function fromHeaders(headers) {
  return Object.entries(headers).flatMap(([name, texts]) => [texts].flat().map((text) => [name, text.toString()]))
}

async function produce(codec, records) {
  await withProducer((producer) =>
    producer.send({
      topic,
      compression: CompressionTypes[CODECS[codec]],
      messages: records.map((record) => ({ ...record, headers: toHeaders(record.headers) })),
    })
  )
}

// A running member: what it has read, and what it is assigned.
async function member(groupId) {
  const consumer = kafka.consumer({ groupId })
  const running = { consumer, got: [], assigned: () => assigned, close: () => consumer.disconnect() }
  let assigned = []
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    assigned = payload.memberAssignment[topic] ?? []
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message: { key, value, headers } }) => {
      running.got.push({ partition, key, value, headers: fromHeaders(headers) })
    },
  })
  return running
}

function numbers(partitions, name = 'offset') {
  return partitions.sort((a, b) => a.partition - b.partition).map((told) => Number(told[name]))
}

async function commit(reader, groupId, ends) {
  await reader.consumer.commitOffsets(ends.map((end, partition) => ({ topic, partition, offset: `${end}` })))
  await reader.close()
  const [{ partitions }] = await withAdmin((admin) => admin.fetchOffsets({ groupId, topics: [topic] }))
  return numbers(partitions)
}

async function offsets() {
  const [found, first] = await withAdmin(async (admin) => [
    await admin.fetchTopicOffsets(topic),
    await admin.fetchTopicOffsetsByTimestamp(topic, 1),
  ])
  return [numbers(found, 'low'), numbers(found), numbers(first)]
}

// Each batch is for one partition: of a batch for several it forgets those whose new leader has answered for others already,
// and says that all were sent (against Kafka, too).
async function send(told) {
  await withProducer(async (producer) => {
    for (let i = 0; i < told.count; i += 20) {
      const sent = Array.from({ length: Math.min(20, told.count - i) }, (_, at) => i + at)
      const partition = (i / 20) % scenario.PARTITIONS
      const messages = sent.map((number) => ({ partition, value: `${number}` }))
      await producer.send({ topic, messages }).then(() => told.ack(sent), (error) => told.refuse(sent, error))
      await told.pace(i)
    }
  })
}

const cannot = { zstd: 'no codec for it in Node 20' }
await main({ name: CLIENT, version: VERSION, idempotent: true, cannot, create, produce, member, commit, offsets, send })
