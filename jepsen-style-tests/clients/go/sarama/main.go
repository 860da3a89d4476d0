// Sarama: it sends the versions of the Kafka that it is told to talk to, at most; here the newest it knows.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"clients/scenario"
)

var compression = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

type client struct {
	bootstrap []string
	topic     string
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Max = 60
	config.Metadata.Retry.Backoff = 500 * time.Millisecond
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	config.Producer.Retry.Max = 60
	config.Producer.Retry.Backoff = 500 * time.Millisecond
	config.Net.MaxOpenRequests = 1
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	return config
}

func (c client) admin(work func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(c.bootstrap, config())
	if err != nil {
		return err
	}
	return errors.Join(work(admin), admin.Close())
}

func (c client) Create() error {
	return c.admin(func(admin sarama.ClusterAdmin) error {
		detail := &sarama.TopicDetail{NumPartitions: scenario.Partitions, ReplicationFactor: scenario.Replication}
		if err := admin.CreateTopic(c.topic, detail, false); err != nil {
			return err
		}
		return scenario.WaitFor("3 partitions of 3 replicas have leaders", func() (bool, error) {
			topics, err := admin.DescribeTopics([]string{c.topic})
			if err != nil || len(topics) != 1 {
				return false, err
			}
			ready := len(topics[0].Partitions) == scenario.Partitions
			for _, p := range topics[0].Partitions {
				ready = ready && p.Leader >= 0 && len(p.Replicas) == scenario.Replication
			}
			return ready, nil
		})
	})
}

func (c client) Produce(codec string, records []scenario.Record) error {
	asked := config()
	asked.Producer.Compression = compression[codec]
	producer, err := sarama.NewSyncProducer(c.bootstrap, asked)
	if err != nil {
		return err
	}
	var messages []*sarama.ProducerMessage
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: c.topic, Partition: r.Partition}
		if r.Key != nil {
			message.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			message.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: []byte(h.Value)})
		}
		messages = append(messages, message)
	}
	return errors.Join(producer.SendMessages(messages), producer.Close())
}

// A member of a group: what it has read, and what it is assigned. Its session keeps the handler's contract: a session is
// set up with what is assigned, and each partition is read until the session ends.
type member struct {
	group    sarama.ConsumerGroup
	cancel   context.CancelFunc
	finished chan struct{}

	lock     sync.Mutex
	got      []scenario.Record
	taken    int
	assigned []int32
	session  sarama.ConsumerGroupSession
	failure  error
}

func (c client) Join(name string) (scenario.Member, error) {
	group, err := sarama.NewConsumerGroup(c.bootstrap, name, config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := &member{group: group, cancel: cancel, finished: make(chan struct{})}
	go func() {
		for err := range group.Errors() {
			joined.set(func() { joined.failure = err })
		}
	}()
	go func() {
		defer close(joined.finished)
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{c.topic}, joined); err != nil {
				joined.set(func() { joined.failure = err })
			}
		}
	}()
	return joined, nil
}

func (j *member) set(change func()) {
	j.lock.Lock()
	defer j.lock.Unlock()
	change()
}

func (j *member) Setup(session sarama.ConsumerGroupSession) error {
	j.set(func() {
		j.session, j.assigned = session, nil
		for _, partitions := range session.Claims() {
			j.assigned = append(j.assigned, partitions...)
		}
	})
	return nil
}

func (j *member) Cleanup(sarama.ConsumerGroupSession) error {
	j.set(func() { j.assigned = nil })
	return nil
}

func (j *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		record := scenario.Record{Partition: message.Partition, Key: message.Key, Value: message.Value}
		for _, h := range message.Headers {
			record.Headers = append(record.Headers, scenario.Header{Key: string(h.Key), Value: string(h.Value)})
		}
		j.set(func() { j.got = append(j.got, record) })
		session.MarkMessage(message, "")
	}
	return nil
}

func (j *member) Take(count int, within time.Duration) (came []scenario.Record, err error) {
	for until := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		j.set(func() { came, err = j.got[j.taken:], j.failure })
		if late := time.Now().After(until); late && err == nil && len(came) < count {
			err = fmt.Errorf("%d of %d records after %s", len(came), count, within)
		}
		if err != nil || len(came) >= count {
			j.taken += len(came)
			return came, err
		}
	}
}

func (j *member) Commit() error {
	j.session.Commit()
	return nil
}

func (j *member) Assigned() (assigned []int32) {
	j.set(func() { assigned = j.assigned })
	return assigned
}

func (j *member) Close() error {
	j.cancel()
	<-j.finished
	return j.group.Close()
}

func (c client) Committed(group string) (ends [scenario.Partitions]int64, err error) {
	err = c.admin(func(admin sarama.ClusterAdmin) error {
		committed, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{c.topic: {0, 1, 2}})
		if err != nil {
			return err
		}
		for p := range ends {
			block := committed.GetBlock(c.topic, int32(p))
			if block == nil {
				return fmt.Errorf("partition %d: nothing is committed", p)
			}
			ends[p] = block.Offset
		}
		return nil
	})
	return ends, err
}

func (c client) Offsets() (begins, ends, since [scenario.Partitions]int64, err error) {
	connected, err := sarama.NewClient(c.bootstrap, config())
	if err != nil {
		return begins, ends, since, err
	}
	defer connected.Close()
	for p := range scenario.Partitions {
		var err1, err2, err3 error
		begins[p], err1 = connected.GetOffset(c.topic, int32(p), sarama.OffsetOldest)
		ends[p], err2 = connected.GetOffset(c.topic, int32(p), sarama.OffsetNewest)
		since[p], err3 = connected.GetOffset(c.topic, int32(p), 1)
		err = errors.Join(err, err1, err2, err3)
	}
	return begins, ends, since, err
}

func (c client) Send(told *scenario.Stream) error {
	producer, err := sarama.NewAsyncProducer(c.bootstrap, config())
	if err != nil {
		return err
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		for message := range producer.Successes() {
			told.Told(message.Metadata.(int), nil)
		}
	})
	answers.Go(func() {
		for failed := range producer.Errors() {
			told.Told(failed.Msg.Metadata.(int), failed.Err)
		}
	})
	for i := range told.Sent {
		value := sarama.StringEncoder(strconv.Itoa(i))
		producer.Input() <- &sarama.ProducerMessage{Topic: c.topic, Partition: int32(i % scenario.Partitions), Value: value, Metadata: i}
		told.Pace(i)
	}
	producer.AsyncClose()
	answers.Wait()
	return nil
}

func main() {
	scenario.Main("sarama", "github.com/IBM/sarama", func(bootstrap []string, topic string) scenario.Client {
		return client{bootstrap, topic}
	})
}
