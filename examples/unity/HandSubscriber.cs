// Unity: the hands that a tracker publishes, drawn as bones, and as `Hands` for your own scripts.
//
// NOT RUN IN UNITY by its authors: compiled and run on real messages with stand-ins for Unity, NetMQ and MessagePack.
//
// 1. With NuGetForUnity install NetMQ (4.0) and MessagePack (2.5 or later).
// 2. Put this file and Hand.cs in Assets, and HandSubscriber on an empty object that stands where the depth camera
//    stands, its blue axis along the camera's view.
// 3. Start `python -m tracker run`, press Play, and switch Gizmos on.

using System;
using System.Collections.Generic;
using NetMQ;
using NetMQ.Sockets;
using UnityEngine;

public sealed class HandSubscriber : MonoBehaviour
{
    const float SilenceSeconds = 3; // a tracker that runs sends its status every second

    public string endpoint = "tcp://127.0.0.1:5556";
    public bool log; // print the index tips
    public List<Hand> Hands { get; private set; } = new List<Hand>();

    SubscriberSocket socket;
    float heard; // when anything came last
    float seen;  // when hands came last, were it none

    void OnEnable()
    {
        AsyncIO.ForceDotNet.Force();
        socket = new SubscriberSocket();
        socket.Connect(endpoint);   // the tracker may start later
        socket.Subscribe("hands."); // "hands.simulated" would be that one camera
        socket.Subscribe("status.");
        heard = seen = Time.realtimeSinceStartup;
    }

    void OnDisable()
    {
        socket.Dispose();
        NetMQConfig.Cleanup(false); // without it the editor hangs at the second Play
    }

    void Update()
    {
        List<byte[]> parts = null;
        byte[] newest = null;
        while (socket.TryReceiveMultipartBytes(ref parts)) // never waits; of what has come, the newest counts
        {
            heard = Time.realtimeSinceStartup;
            if (parts.Count == 2 && parts[0].Length > 0 && parts[0][0] == 'h') newest = parts[1];
        }
        if (newest != null)
        {
            seen = Time.realtimeSinceStartup;
            try { Hands = Hand.ReadMessage(newest); }
            catch (Exception error) // another version, another skeleton, or no message of a tracker
            {
                Debug.LogError(endpoint + ": " + error.Message);
                Hands.Clear();
                enabled = false; // once is enough: switch the component on again when that is mended
                return;
            }
        }
        if (Time.realtimeSinceStartup - seen > SilenceSeconds)
        {
            bool alive = Time.realtimeSinceStartup - heard <= SilenceSeconds; // its status comes, but no frames
            Debug.LogWarning(alive ? "the camera gives no frames" : "silence: no tracker publishes on " + endpoint);
            seen = Time.realtimeSinceStartup;
            Hands.Clear();
        }
        if (log && newest != null)
            foreach (Hand hand in Hands)
                Debug.Log($"{hand.Side} #{hand.Id} {hand.Confidence:F2} index tip {hand.Joints[8]:F3} m");
    }

    void OnDrawGizmos()
    {
        Gizmos.matrix = transform.localToWorldMatrix;
        foreach (Hand hand in Hands)
            for (int joint = 1; joint < 21; joint++)
            {
                Vector3 parent = hand.Joints[joint % 4 == 1 ? 0 : joint - 1];
                if (float.IsNaN(parent.x) || float.IsNaN(hand.Joints[joint].x)) continue;
                Gizmos.DrawLine(parent, hand.Joints[joint]);
            }
    }
}
