// Sarama: it sends the versions of the Kafka that it is told to talk to, at most; here the newest it knows.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"clients/scenario"
)

const module = "github.com/IBM/sarama"

var compression = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

type matrix struct {
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

func (m matrix) admin(work func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(m.bootstrap, config())
	if err != nil {
		return err
	}
	return errors.Join(work(admin), admin.Close())
}

func (m matrix) create() error {
	return m.admin(func(admin sarama.ClusterAdmin) error {
		detail := &sarama.TopicDetail{NumPartitions: scenario.Partitions, ReplicationFactor: scenario.Replication}
		if err := admin.CreateTopic(m.topic, detail, false); err != nil {
			return err
		}
		return scenario.WaitFor("3 partitions of 3 replicas have leaders", func() (bool, error) {
			topics, err := admin.DescribeTopics([]string{m.topic})
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

func (m matrix) produce(codec string, records []scenario.Record) error {
	asked := config()
	asked.Producer.Compression = compression[codec]
	producer, err := sarama.NewSyncProducer(m.bootstrap, asked)
	if err != nil {
		return err
	}
	var messages []*sarama.ProducerMessage
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: m.topic, Partition: r.Partition}
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
	assigned []int32
	session  sarama.ConsumerGroupSession
	failure  error
}

func (m matrix) member(name string) (*member, error) {
	group, err := sarama.NewConsumerGroup(m.bootstrap, name, config())
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
			if err := group.Consume(ctx, []string{m.topic}, joined); err != nil {
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

func (j *member) take(count int) ([]scenario.Record, error) {
	err := scenario.WaitFor(fmt.Sprintf("%d records were read", count), func() (done bool, err error) {
		j.set(func() { done, err = len(j.got) >= count, j.failure })
		return
	})
	return j.got, err
}

func (j *member) close() error {
	j.cancel()
	<-j.finished
	return j.group.Close()
}

func (m matrix) commit(reader *member, group string, sent []scenario.Record) error {
	reader.session.Commit()
	if err := reader.close(); err != nil {
		return err
	}
	return m.admin(func(admin sarama.ClusterAdmin) error {
		committed, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{m.topic: {0, 1, 2}})
		if err != nil {
			return err
		}
		for p, end := range scenario.Ends(sent) {
			if block := committed.GetBlock(m.topic, int32(p)); block == nil || block.Offset != end {
				return fmt.Errorf("partition %d: committed %+v, read to %d", p, block, end)
			}
		}
		return nil
	})
}

func (m matrix) readInGroup(group string, count int) ([]scenario.Record, error) {
	reader, err := m.member(group)
	if err != nil {
		return nil, err
	}
	got, err := reader.take(count)
	return got, errors.Join(err, reader.close())
}

func (m matrix) rebalance(group string) error {
	first, err := m.member(group)
	if err != nil {
		return err
	}
	second, err := m.member(group)
	if err != nil {
		return err
	}
	err = scenario.WaitFor("two members share 3 partitions", func() (bool, error) {
		var a, b []int32
		first.set(func() { a = first.assigned })
		second.set(func() { b = second.assigned })
		return scenario.Shared(a, b), nil
	})
	return errors.Join(err, first.close(), second.close())
}

func (m matrix) offsets(sent []scenario.Record) error {
	client, err := sarama.NewClient(m.bootstrap, config())
	if err != nil {
		return err
	}
	defer client.Close()
	for p, end := range scenario.Ends(sent) {
		for at, expected := range map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: end, 1: 0} {
			found, err := client.GetOffset(m.topic, int32(p), at)
			if err != nil || found != expected {
				return fmt.Errorf("partition %d: offset at %d is %d, not %d: %w", p, at, found, expected, err)
			}
		}
	}
	return nil
}

func (m matrix) run() {
	report := scenario.NewReport("sarama", module)
	group := m.topic + "-group"
	var sent []scenario.Record
	var reader *member
	report.Step("create", m.create)
	for _, codec := range scenario.Codecs {
		report.Step(codec, func() error {
			records := scenario.Records(codec, scenario.PerCodec)
			sent = append(sent, records...)
			return m.produce(codec, records)
		})
	}
	report.Step("consume", func() (err error) {
		if reader, err = m.member(group); err != nil {
			return err
		}
		got, err := reader.take(len(sent))
		return errors.Join(err, scenario.Compare(sent, got))
	})
	report.Step("commit", func() error { return m.commit(reader, group, sent) })
	report.Step("resume", func() error {
		more := scenario.Records("none", scenario.Resumed)
		if err := m.produce("none", more); err != nil {
			return err
		}
		sent = append(sent, more...)
		got, err := m.readInGroup(group, len(more))
		return errors.Join(err, scenario.Compare(more, got))
	})
	report.Step("rebalance", func() error { return m.rebalance(group + "-two") })
	report.Step("offsets", func() error { return m.offsets(sent) })
	report.Print()
}

func (m matrix) stream(count int) error {
	if err := m.create(); err != nil {
		return err
	}
	told := scenario.NewStream("sarama", module, count)
	producer, err := sarama.NewAsyncProducer(m.bootstrap, config())
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
	for i := range count {
		value := sarama.StringEncoder(strconv.Itoa(i))
		producer.Input() <- &sarama.ProducerMessage{Topic: m.topic, Partition: int32(i % scenario.Partitions), Value: value, Metadata: i}
		told.Pace(i)
	}
	producer.AsyncClose()
	answers.Wait()
	reader, err := m.member(m.topic + "-group")
	if err != nil {
		return err
	}
	if _, err := reader.take(told.Acked); err != nil {
		return err
	}
	// Duplicates would come after what is awaited.
	time.Sleep(time.Second)
	if err := reader.close(); err != nil {
		return err
	}
	var numbers []int
	for _, record := range reader.got {
		number, err := strconv.Atoi(string(record.Value))
		if err != nil {
			return err
		}
		numbers = append(numbers, number)
	}
	told.Print(numbers)
	return nil
}

func main() {
	bootstrap, topic, count := scenario.Arguments()
	m := matrix{bootstrap, topic}
	if count == 0 {
		m.run()
	} else if err := m.stream(count); err != nil {
		log.Fatal(err)
	}
}
