// Command play uses go-redis as people do, with its plain and its cluster client.
//
// usage: play HOST:PORT [plain]. Where the stage has to change it prints the word and waits for a line.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	ctx    = context.Background()
	input  = bufio.NewReader(os.Stdin)
	script = redis.NewScript("redis.call('INCRBY', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('GET', KEYS[1])}")
)

func stage(word string) {
	fmt.Println(word)
	line, err := input.ReadString('\n')
	must(err)
	want("the stage's answer", strings.TrimSpace(line), "done")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func want(what string, got, wanted any) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		panic(fmt.Sprintf("%s: got %v, wanted %v", what, got, wanted))
	}
}

// patiently tries again until it works.
func patiently(call func() error) {
	end := time.Now().Add(30 * time.Second)
	for {
		err := call()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			panic(err)
		}
		fmt.Println("  again after", err)
		time.Sleep(100 * time.Millisecond)
	}
}

func values(c redis.UniversalClient) {
	must(c.Set(ctx, "a", "text", 100*time.Second).Err())
	want("GET", c.Get(ctx, "a").Val(), "text")
	if err := c.Get(ctx, "nothere").Err(); !errors.Is(err, redis.Nil) {
		panic(err)
	}
	must(c.HSet(ctx, "h", "f", 1, "g", 2).Err())
	want("HGETALL", c.HGetAll(ctx, "h").Val(), map[string]string{"f": "1", "g": "2"})
	must(c.ZAdd(ctx, "z", redis.Z{Score: 1, Member: "one"}, redis.Z{Score: 2.5, Member: "two"}).Err())
	want("ZRANGE", c.ZRangeWithScores(ctx, "z", 0, -1).Val(), "[{1 one} {2.5 two}]")
	if err := c.Incr(ctx, "h").Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		panic(err)
	}
}

func pipelines(c redis.UniversalClient) {
	commands, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range 500 {
			pipe.Set(ctx, fmt.Sprintf("p:%d", i), i, 0)
			pipe.Get(ctx, fmt.Sprintf("p:%d", i))
		}
		return nil
	})
	must(err)
	for i := range 500 {
		want("pipelined GET", commands[2*i+1].(*redis.StringCmd).Val(), i)
	}
}

func transactions(c redis.UniversalClient) {
	commands, err := c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "{t}n", 1, 0)
		pipe.Incr(ctx, "{t}n")
		return nil
	})
	must(err)
	want("INCR in MULTI", commands[1].(*redis.IntCmd).Val(), 2)
	err = c.Watch(ctx, func(tx *redis.Tx) error {
		must(c.Set(ctx, "{t}n", 10, 0).Err())
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Incr(ctx, "{t}n").Err() })
		return err
	}, "{t}n")
	if !errors.Is(err, redis.TxFailedErr) {
		panic(err)
	}
}

func scripts(c redis.UniversalClient) {
	for i := range 30 {
		name := fmt.Sprintf("s:%d", i)
		got, err := script.Run(ctx, c, []string{name}, i+1).Slice()
		must(err)
		want("script", got, fmt.Sprintf("[%s %d]", name, i+1))
	}
}

func iteration(c redis.UniversalClient) {
	must(c.FlushAll(ctx).Err())
	_, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range 1000 {
			pipe.Set(ctx, fmt.Sprintf("scan:%d", i), 1, 0)
		}
		return nil
	})
	must(err)
	seen := map[string]bool{}
	each := c.Scan(ctx, 0, "scan:*", 50).Iterator()
	for each.Next(ctx) {
		seen[each.Val()] = true
	}
	must(each.Err())
	want("SCAN", len(seen), 1000)
}

func messages(c redis.UniversalClient) {
	listener := c.Subscribe(ctx, "news", "other")
	defer listener.Close()
	for range 2 {
		_, err := listener.Receive(ctx)
		must(err)
	}
	for i := range 50 {
		must(c.Publish(ctx, "news", i).Err())
	}
	for i := range 50 {
		message, err := listener.ReceiveMessage(ctx)
		must(err)
		want("message", message.Payload, i)
	}
	must(listener.Ping(ctx, "still there"))
	sharded := c.SSubscribe(ctx, "shard{1}")
	defer sharded.Close()
	_, err := sharded.Receive(ctx)
	must(err)
	must(c.SPublish(ctx, "shard{1}", "hello").Err())
	message, err := sharded.ReceiveMessage(ctx)
	must(err)
	want("sharded message", message.Payload, "hello")
}

func queues(c redis.UniversalClient) {
	if err := c.BLPop(ctx, time.Second, "q").Err(); !errors.Is(err, redis.Nil) {
		panic(err)
	}
	var waiting sync.WaitGroup
	var lock sync.Mutex
	got := map[string]bool{}
	for range 10 {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			pair := c.BLPop(ctx, 20*time.Second, "q").Val()
			lock.Lock()
			defer lock.Unlock()
			got[pair[1]] = true
		}()
	}
	for i := range 10 {
		must(c.RPush(ctx, "q", i).Err())
	}
	waiting.Wait()
	want("distinct jobs", len(got), 10)
	must(c.XGroupCreateMkStream(ctx, "stream", "workers", "0").Err())
	read := make(chan string)
	go func() {
		read <- fmt.Sprint(c.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: "workers", Consumer: "w1", Streams: []string{"stream", ">"}, Block: 20 * time.Second,
		}).Val())
	}()
	must(c.XAdd(ctx, &redis.XAddArgs{Stream: "stream", Values: []string{"job", "1"}}).Err())
	if text := <-read; !strings.Contains(text, "job") {
		panic(text)
	}
}

func main() {
	address := os.Args[1]
	for _, protocol := range []int{2, 3} {
		c := redis.NewClient(&redis.Options{Addr: address, Protocol: protocol, ClientName: "play"})
		must(c.FlushAll(ctx).Err())
		want("CLIENT GETNAME", c.ClientGetName(ctx).Val(), "play")
		for _, part := range []func(redis.UniversalClient){
			values, pipelines, transactions, scripts, iteration, messages, queues,
		} {
			part(c)
		}
		fmt.Println("ok RESP", protocol)
		must(c.Close())
	}
	if len(os.Args) < 3 {
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address}})
		must(c.FlushAll(ctx).Err())
		for _, part := range []func(redis.UniversalClient){values, pipelines, transactions, scripts, messages, queues} {
			part(c)
		}
		must(c.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			want("the cluster's node", node.Options().Addr, address)
			return nil
		}))
		fmt.Println("ok cluster")
	}
	c := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1})
	must(c.Set(ctx, "kept", 1, 0).Err())
	stage("restart")
	patiently(func() error { return c.Get(ctx, "kept").Err() })
	stage("failover")
	for i := range 100 {
		patiently(func() error { return c.Set(ctx, fmt.Sprintf("after:%d", i), i, 0).Err() })
	}
	fmt.Println("done")
}
